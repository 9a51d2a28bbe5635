"""Runs checks one after the other, a line for each; the first that fails ends the script with its traceback."""

import asyncio
import inspect
import time

WITHIN = 20.0

ALL = []


def check(function):
    """Registers a check; its name is the fact that it shows."""
    ALL.append(function)
    return function


def run(client, before, *arguments):
    for function in ALL:
        before()
        name = function.__name__.replace("_", " ")
        print(f"{client}: {name} ", end="", flush=True)
        outcome = function(*arguments)
        if inspect.iscoroutine(outcome):
            asyncio.run(outcome)
        print("ok", flush=True)


def equal(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def raises(kind, text, call):
    """The call fails with this class of error, exactly, and its text has these words."""
    try:
        found = call()
    except Exception as error:
        assert type(error) is kind and text in str(error), f"{error!r} instead of {kind.__name__} with {text!r}"
        return error
    raise AssertionError(f"{found!r} instead of {kind.__name__}")


def until(what, ask):
    deadline = time.monotonic() + WITHIN
    while not ask():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)
