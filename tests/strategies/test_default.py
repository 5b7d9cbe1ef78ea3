import numpy as np

from strategies import Default, MaxHerding, Pool, UncertaintyHerding


def test_coverage_until_there_is_a_learner_then_of_what_it_is_unsure_of() -> None:
    rng = np.random.default_rng(0)
    x, committee = rng.normal(size=(50, 4)), rng.dirichlet(np.ones(3), size=(2, 50))
    for given, phase in ((None, MaxHerding()), (committee, UncertaintyHerding())):
        pool = Pool(50, committee=given, embeddings=x, labeled_embeddings=x[:5])
        one, other = (s.rank(pool, 9, batch_size=3, seed=0) for s in (Default(), phase))
        assert one.indices.tolist() == other.indices.tolist()
        assert one.reasons == other.reasons
