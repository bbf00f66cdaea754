import json

from headmix_adapters.train.history.events import Event, Resumed, Scored, Started, Step
from headmix_server.jobs.job import JobEvent, NewEvent
from headmix_server.training.job.follow import MOST_STEPS_RECORDED, Follower, Recorded, recorded
from tests.support.clocks.fake_clock import FakeClock


def started(steps: int) -> Started:
    return Started(
        name="a",
        task="classification",
        steps=steps,
        epochs=2,
        train_examples=9,
        valid_examples=3,
        score_name="accuracy",
        greater_is_better=True,
        base=None,
        linear_classifier=None,
    )


def step(number: int) -> Step:
    return Step(step=number, epoch=number / 10, train_loss=0.5, learning_rate=0.1, tokens=7 * number)


def scored(number: int) -> Scored:
    return Scored(step=number, epoch=1.0, train_loss=0.5, valid_loss=0.25, score=0.75, scores={"accuracy": 0.75})


def steps_of(news: list[NewEvent]) -> list[int]:
    return [json.loads(str(event.data))["step"] for event in news if event.type == "metrics"]


def test_progress_says_how_far_training_is_and_how_long_it_will_take() -> None:
    clock = FakeClock()
    follower = Follower(Recorded(), clock)
    follower.take([started(10), step(1)])
    assert follower.progress.seconds_left is None
    clock.now += 6
    follower.take([step(2), step(3)])
    progress = follower.progress
    assert (progress.step, progress.steps, progress.trained_tokens, progress.seconds_left) == (3, 10, 21, 21.0)


def test_what_an_earlier_attempt_has_recorded_is_not_recorded_again() -> None:
    events: list[Event] = [started(4), step(1), step(2), scored(2), Resumed(step=2), step(3), step(4), scored(4)]
    first = Follower(Recorded())
    first.take(events[:4])
    told = [
        JobEvent(job_id="j", number=n, level="info", type=event.type, message=event.message, data=event.data, created=0)
        for n, event in enumerate(first.take_news(), 1)
    ]
    assert recorded(told) == Recorded(step=2, scored=2)
    second = Follower(recorded(told))
    second.take(events)
    news = second.take_news()
    assert steps_of(news) == [3, 4, 4]
    assert [event.message for event in news if event.type == "message"] == ["Training goes on from step 2."]
    assert second.take_news() == []


def test_the_steps_of_a_long_training_are_thinned_out() -> None:
    steps = 4 * MOST_STEPS_RECORDED
    follower = Follower(Recorded())
    follower.take([started(steps), *map(step, range(1, steps + 1))])
    found = steps_of(follower.take_news())
    assert (found[:3], found[-1], len(found)) == ([1, 4, 8], steps, MOST_STEPS_RECORDED + 1)


def test_scores_are_recorded_under_openais_names_too() -> None:
    follower = Follower(Recorded())
    follower.take([started(4), scored(2)])
    (event,) = (event for event in follower.take_news() if event.type == "metrics")
    assert json.loads(str(event.data)) == {
        "step": 2,
        "scores": {"accuracy": 0.75},
        "valid_loss": 0.25,
        "full_valid_loss": 0.25,
    }
