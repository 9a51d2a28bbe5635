"""Reads events from a position on, and starts over where the position is no longer kept."""

import redis


def entries(found):
    """What XREAD gave of one stream: redis-py has one shape for RESP2 and one for RESP3."""
    if not found:
        return []
    return found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]


def follow(connection, stream, cursor, handle):
    """Hands every event behind `cursor` to `handle`, with the cursor behind it, until it says False."""
    while True:
        # Keep what `handle` does together with the cursor: then nothing is done twice or left out.
        for cursor, fields in entries(connection.xread({stream: cursor}, count=1000, block=1000)):
            if handle(cursor, fields) is False:
                return


def start_over(connection, stream, read_all):
    """Reads the state anew and gives the cursor to follow it from."""
    # First where events stand, then the state: what changes in between is told again.
    cursor = connection.xinfo_stream(stream)["last-generated-id"]
    read_all()
    return cursor


def mirror(connection, stream, cursor, read_all, handle):
    """Follows a stream for ever, from a cursor or, without one, from the state."""
    while True:
        try:
            follow(connection, stream, cursor or start_over(connection, stream, read_all), handle)
            return
        except redis.ResponseError as error:
            if not str(error).startswith("BELOWFLOOR"):
                raise
            cursor = None
