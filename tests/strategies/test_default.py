import numpy as np

from strategies import Default, Entropy, MaxHerding, Pool, Regions, UncertaintyHerding, Units


def test_coverage_until_there_is_a_learner_then_of_what_it_is_unsure_of() -> None:
    rng = np.random.default_rng(0)
    x, committee = rng.normal(size=(50, 4)), rng.dirichlet(np.ones(3), size=(2, 50))
    for given, phase in ((None, MaxHerding()), (committee, UncertaintyHerding())):
        pool = Pool(50, committee=given, embeddings=x, labeled_embeddings=x[:5])
        one, other = (s.rank(pool, 9, batch_size=3, seed=0) for s in (Default(), phase))
        assert one.indices.tolist() == other.indices.tolist()
        assert one.reasons == other.reasons


def test_of_parts_of_images_the_doubts_are_added_up() -> None:
    rng = np.random.default_rng(0)
    x, owners = rng.normal(size=(50, 4)), np.repeat(np.arange(50), 3)
    boxes = Pool(150, committee=rng.uniform(size=(2, 150, 3)), multi_label=True)
    present = rng.uniform(size=(2, 50, 3))
    pool = Pool(
        50,
        committee=present,
        multi_label=True,
        units=Units(boxes, owners),
        embeddings=x,
        labeled_embeddings=x[:5],
    )
    phase = UncertaintyHerding(Regions(Entropy(), reduction="sum"))
    one, other = (s.rank(pool, 9, batch_size=3, seed=0) for s in (Default(), phase))
    assert one.indices.tolist() == other.indices.tolist()
    assert one.reasons == other.reasons
