"""Writes that happen exactly once, through any of several nodes; one thread at a time."""

from redis.exceptions import ClusterDownError, ConnectionError, ResponseError, TimeoutError


class Session:
    def __init__(self, nodes):
        self.nodes = nodes  # redis.Redis, one for each node
        self.number = 1  # of the next command
        self.ticket = nodes[0].execute_command("CLIENT SESSION", "OPEN")

    def run(self, *commands):
        """The replies of the commands, errors among them; sends the same again until there is one for each."""
        while True:
            with self.nodes[0].pipeline(transaction=False) as pipe:
                pipe.execute_command("CLIENT SESSION", "USE", self.ticket, self.number, "COUNT", len(commands))
                for command in commands:
                    pipe.execute_command(*command)
                try:
                    ticket, *replies = pipe.execute(raise_on_error=False)
                    if not any(map(self.open_ended, [ticket, *replies])):
                        break
                except (ConnectionError, TimeoutError):
                    pass
            self.nodes = self.nodes[1:] + self.nodes[:1]
        self.ticket, self.number = ticket, self.number + len(commands)
        return replies

    @staticmethod
    def open_ended(reply):
        """Not the last word about a command: it may have been executed, now or when it was sent before."""
        return isinstance(reply, ClusterDownError) or (
            isinstance(reply, ResponseError) and str(reply).startswith("TIMEOUT ")
        )
