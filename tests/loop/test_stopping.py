from backend.loop.stopping import by_labels
from strategies.stopping import Progress, StablePredictions


def test_a_round_without_new_labels_is_no_evidence_that_predictions_have_settled() -> None:
    labeled = [Progress(10, 90), Progress(20, 80, accuracy=0.7, agreement=0.8)]
    pressed = [Progress(20, 80, accuracy=0.7, agreement=1.0)] * 3
    relabeled = Progress(20, 80, accuracy=0.75, agreement=0.95)
    assert StablePredictions().evidence([*labeled, *pressed])
    history = by_labels([*labeled, *pressed, relabeled])
    assert history == [labeled[0], Progress(20, 80, accuracy=0.75, agreement=0.8)]
    assert StablePredictions().evidence(history) is None


def test_nor_does_it_take_back_what_was_evidence() -> None:
    settled = [Progress(10 * n, 100 - 10 * n, agreement=0.995) for n in range(1, 5)]
    again = Progress(40, 60)  # as where the model before is no longer there
    assert StablePredictions().evidence(by_labels([*settled, again])) == StablePredictions().evidence(settled)
