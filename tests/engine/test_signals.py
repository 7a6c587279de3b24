import signal
import threading

import pytest

from yolo_mha.engine.signals import held_back


@pytest.fixture
def heard():
    """Signals that reach the handler of SIGTERM, which raises nothing; all handlers are set again afterwards."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def test_held_back__comes_right_after_the_block(heard):
    done = []

    def work():
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert heard == []
            done.append("block")
        done.append("behind")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert (done, heard) == (["block"], [signal.SIGTERM])


def test_held_back__sets_the_handlers_again(heard):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyError), held_back():
        raise KeyError
    with held_back():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_held_back__comes_also_where_the_block_fails(heard):
    def fail():
        signal.raise_signal(signal.SIGINT)
        raise OSError

    with pytest.raises(KeyboardInterrupt) as caught, held_back():
        fail()
    assert isinstance(caught.value.__context__, OSError)


def test_held_back__sets_all_handlers_again_where_one_signal_comes_meanwhile(heard, monkeypatch):
    former, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    set_handler = signal.signal

    def interrupted(number, handler):
        set_handler(number, handler)
        if handler is interrupt:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt), held_back():
        pass
    assert signal.getsignal(signal.SIGTERM) is former


def test_held_back__does_nothing_in_another_thread(heard):
    done = []

    def work():
        with held_back():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]
