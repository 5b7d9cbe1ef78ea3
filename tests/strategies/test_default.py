import numpy as np
import pytest

from strategies import Default, KCenterGreedy, Margin, Pool, Strategy

FEW, MANY = KCenterGreedy(), Margin()


def pool(labels: int, committee: bool = True) -> Pool:
    rng = np.random.default_rng(0)
    return Pool(
        50,
        committee=rng.dirichlet(np.ones(3), size=(2, 50)) if committee else None,
        embeddings=rng.normal(size=(50, 4)),
        labeled_embeddings=rng.normal(size=(labels, 4)),
    )


def same_as(strategy: Strategy, given: Pool) -> bool:
    picks = Default(FEW, MANY, labels_per_class=4).rank(given, 9, batch_size=3, seed=0).indices
    return picks.tolist() == strategy.rank(given, 9, batch_size=3, seed=0).indices.tolist()


def test_few_labels_then_many() -> None:
    """Three classes, so the phase changes at twelve labels."""
    assert same_as(FEW, pool(11)) and not same_as(MANY, pool(11))
    assert same_as(MANY, pool(12)) and not same_as(FEW, pool(12))


def test_few_without_a_learner() -> None:
    assert same_as(FEW, pool(100, committee=False))


def test_a_number_of_labels_that_is_none() -> None:
    with pytest.raises(ValueError, match="labels_per_class is nan"):
        Default(labels_per_class=float("nan"))
