"""Whatever a file holds, a command that reads it answers, or names one fault."""

import pytest
from hypothesis import HealthCheck, given, seed, settings
from inputs import COMMANDS, RARER, inputs
from mutations import mutated

FEW, MANY = 12, 400
FILES = inputs()


def examples(number: int, **how: bool) -> settings:
    """Return the settings under which so many inputs are tried."""
    return settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck), **how)


def attempt(holds, name):
    """Return what is tried of one kind of input."""
    file, command = COMMANDS[name]

    @given(mutated(FILES[file].decode()))
    def once(content):
        holds({**FILES, file: content}, command.split())

    return once


@pytest.mark.parametrize("name", COMMANDS)
def test_command__with_a_valid_file(holds, name):
    """So that what follows begins with what is read to its end."""
    assert holds(FILES, COMMANDS[name][1].split()) == (2 if name == "recipe" else 0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in RARER else []) for name in COMMANDS]
)
def test_command__with_faults_in_a_file(holds, name):
    examples(FEW, derandomize=True)(attempt(holds, name))()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_command__with_very_many_faults_in_a_file(holds, name, at_random):
    seed(at_random)(examples(MANY)(attempt(holds, name)))()
