"""Splits that leak, shift or lose a label make every later number wrong: their promises, as properties."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derm_ml.data.splits import (
    ImageIdentity,
    SplitFractions,
    assign_splits,
    contested,
    group_samples,
    known_again,
    settle,
    split_hash,
)
from derm_ml.records import RECENT, SPLITS, UNLABELLED, DataError, Sample, normal_id, one_hot

LABELS = ("melanoma", "nevus", "seborrheic_keratosis")


def sample(name: str, label: str = "nevus", **facts) -> Sample:
    return Sample(name, {"image": f"{name}.jpg"}, one_hot(label, LABELS), **facts)


@st.composite
def sample_sets(draw, official: bool = False) -> list[Sample]:
    """1 to 60 samples of a few patients and lesions, in two sources."""
    size = draw(st.integers(1, 60))
    return [
        sample(
            f"s{number:03}",
            draw(st.sampled_from(LABELS)),
            patient=draw(st.sampled_from(["", "", "p1", "p2", "p3", "p4"])),
            lesion=draw(st.sampled_from(["", "", "", "l1", "l2", "l3"])),
            source=draw(st.sampled_from(["hospital", "archive"])),
            split=draw(st.sampled_from(SPLITS)) if official else "",
        )
        for number in range(size)
    ]


@st.composite
def sets_with_duplicates(draw, official: bool = False):
    samples = draw(sample_sets(official))
    ids = st.sampled_from([s.id for s in samples])
    return samples, draw(st.lists(st.tuples(ids, ids), max_size=8))


fractions = st.builds(
    SplitFractions,
    validation=st.floats(0, 0.45),
    test=st.floats(0, 0.45),
    seed=st.integers(0, 5),
    recent=st.floats(0, 0.9),
)


@settings(deadline=None)
@given(sets_with_duplicates(), fractions)
def test_a_group_never_crosses_splits(made, shares):
    """The same patient in training and test is the commonest way to report a score that does not hold."""
    samples, duplicates = made
    groups = group_samples(samples, duplicates)
    splits = assign_splits(samples, shares, groups)
    assert set(splits) == {s.id for s in samples}
    assert set(splits.values()) <= set(SPLITS)
    for name in set(groups.values()):
        assert len({splits[s.id] for s in samples if groups[s.id] == name}) == 1


@settings(deadline=None)
@given(sets_with_duplicates())
def test_groups_join_what_belongs_together_and_nothing_else(made):
    samples, duplicates = made
    groups = group_samples(samples, duplicates)
    links = {s.id: {s.id} for s in samples}
    for a in samples:
        for b in samples:
            same = (a.patient and a.patient == b.patient) or (a.lesion and a.lesion == b.lesion)
            if same or (a.id, b.id) in duplicates or (b.id, a.id) in duplicates:
                links[a.id].add(b.id)
    for s in samples:  # reachable by links, the slow and simple way
        reached, frontier = {s.id}, {s.id}
        while frontier:
            frontier = set().union(*(links[i] for i in frontier)) - reached
            reached |= frontier
        assert {other for other, name in groups.items() if name == groups[s.id]} == reached
        assert groups[s.id] == min(reached)


@settings(deadline=None)
@given(sets_with_duplicates(), fractions, st.randoms())
def test_the_order_of_the_input_does_not_matter(made, shares, random):
    """A file system that lists differently must not give another test set."""
    samples, duplicates = made
    shuffled, turned = list(samples), [(b, a) for a, b in duplicates]
    random.shuffle(shuffled)
    random.shuffle(turned)
    groups = group_samples(samples, duplicates)
    assert group_samples(shuffled, turned) == groups
    assert assign_splits(shuffled, shares, groups) == assign_splits(samples, shares, groups)


@settings(deadline=None)
@given(sets_with_duplicates(official=True), fractions)
def test_official_splits_are_kept(made, shares):
    """Scores are comparable with published ones only on the published split."""
    samples, duplicates = made
    splits = assign_splits(samples, shares, group_samples(samples, duplicates))
    published = {s.split for s in samples}
    for s in samples:
        assert splits[s.id] == s.split or (s.split == "train" and splits[s.id] not in published)


@settings(deadline=None)
@given(
    st.lists(st.integers(40, 120), min_size=3, max_size=3),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
    st.integers(0, 9),
)
def test_every_label_gets_its_share(sizes, validation, test, seed):
    """Without groups the shares are met to one sample a label."""
    samples = [sample(f"{label}{n}", label) for label, size in zip(LABELS, sizes, strict=True) for n in range(size)]
    splits = assign_splits(samples, SplitFractions(validation, test, seed), group_samples(samples))
    for label, size in zip(LABELS, sizes, strict=True):
        counts = Counter(splits[f"{label}{n}"] for n in range(size))
        assert abs(counts["validation"] - validation * size) <= 1
        assert abs(counts["test"] - test * size) <= 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=3, max_size=30), st.integers(0, 9))
def test_a_rare_label_is_in_every_split_as_soon_as_it_has_three_groups(sizes, seed):
    """A label that a split lacks cannot be measured there."""
    samples = [
        sample(f"m{group}-{n}", "melanoma", patient=f"p{group}")
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    samples += [sample(f"n{n}") for n in range(200)]
    splits = assign_splits(samples, SplitFractions(seed=seed), group_samples(samples))
    assert {splits[s.id] for s in samples if s.patient} == set(SPLITS)


@pytest.mark.parametrize("groups", [1, 2])
def test_with_too_few_groups_training_comes_first(groups):
    samples = [sample(f"m{n}", "melanoma") for n in range(groups)] + [sample(f"n{n}") for n in range(50)]
    splits = assign_splits(samples, SplitFractions(), group_samples(samples))
    assert "train" in {splits[f"m{n}"] for n in range(groups)}


@settings(deadline=None)
@given(sets_with_duplicates(), fractions)
def test_extra_data_never_leave_training(made, shares):
    """Nor does anything that shows the same patient or picture as they do."""
    samples, duplicates = made
    groups = group_samples(samples, duplicates)
    splits = assign_splits(samples, shares, groups, training_only=frozenset({"archive"}))
    tied = {groups[s.id] for s in samples if s.source == "archive"}
    assert all(splits[s.id] == "train" for s in samples if groups[s.id] in tied)


def test_a_split_without_share_stays_empty():
    samples = [sample(f"n{n}") for n in range(20)]
    splits = assign_splits(samples, SplitFractions(validation=0.3, test=0), group_samples(samples))
    assert "test" not in splits.values()


def test_a_missing_official_split_is_drawn_from_training_only():
    """ISIC 2017 as many have it: training and validation. The test set must not eat the validation set."""
    samples = [sample(f"t{n}", LABELS[n % 3], split="train") for n in range(90)]
    samples += [sample(f"v{n}", LABELS[n % 3], split="validation") for n in range(30)]
    splits = assign_splits(samples, SplitFractions(validation=0.2, test=0.2), group_samples(samples))
    assert Counter(splits.values()) == {"train": 72, "test": 18, "validation": 30}


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.1, -0.1), (0.5, 0.5), (1, 0)])
def test_impossible_shares_are_refused(validation, test):
    with pytest.raises(DataError, match="leave training data"):
        assign_splits([sample("a")], SplitFractions(validation, test), {"a": "a"})


def test_seed_changes_the_drawn_split():
    samples = [sample(f"n{n}") for n in range(60)]
    groups = group_samples(samples)
    drawn = [split_hash(assign_splits(samples, SplitFractions(seed=seed), groups), "test") for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_split_hash_names_the_ids_whatever_their_order():
    splits = {"a": "test", "b": "test", "c": "train"}
    assert split_hash(splits, "test") == split_hash(dict(reversed(splits.items())), "test")
    assert split_hash(splits, "test") != split_hash({**splits, "c": "test"}, "test")
    assert split_hash(splits, "train") != split_hash({"c": "test"}, "test")


FINDINGS = ("common", "half", "rare")


@given(st.integers(0, 10_000), st.integers(60, 160))
@settings(max_examples=40)
def test_every_finding_is_dealt_in_its_share_though_findings_overlap(seed, patients):
    """Both eyes of a patient stay together, and a rare finding that comes with a common one is not lost to a split."""
    rng = np.random.default_rng(seed)
    shares = {"common": 0.5, "half": 0.3, "rare": 0.1}
    eyes = [
        Sample(f"{number}_{eye}", {"image": f"{number}_{eye}.jpg"},
               {f: float(rng.random() < shares[f]) for f in FINDINGS}, patient=str(number), source="eyes")
        for number in range(patients) for eye in ("left", "right")
    ]  # fmt: skip
    splits = assign_splits(eyes, SplitFractions(0.2, 0.2, seed), group_samples(eyes))
    assert all(splits[f"{n}_left"] == splits[f"{n}_right"] for n in range(patients))
    for finding in FINDINGS:
        having = [s.id for s in eyes if s.target[finding] == 1]
        for split in ("validation", "test"):
            dealt = sum(splits[name] == split for name in having)
            assert abs(dealt - 0.2 * len(having)) <= max(3, 0.12 * len(having))


def test_an_image_without_a_known_target_is_in_no_split_and_ties_no_other_to_training():
    known = sample("a", patient="p", source="s")
    unknown = Sample("b", {"image": "b.jpg"}, dict.fromkeys(LABELS, float("nan")), patient="p", source="s")
    nothing = Sample("c", {"image": "c.jpg"}, patient="p", source="s")
    samples = [known, unknown, nothing, *(sample(f"x{k}", source="s") for k in range(3))]
    splits = assign_splits(samples, SplitFractions(0.0, 0.7, 0), group_samples(samples))
    assert splits["b"] == splits["c"] == UNLABELLED
    assert {splits[s.id] for s in samples if s.labelled} == {"train", "test"}


@settings(deadline=None)
@given(sets_with_duplicates(), fractions, st.data())
def test_growing_the_data_never_moves_an_image(made, shares, data):
    """An old training image in the new test set: the champion would be measured on what it learned."""
    samples, duplicates = made
    known = data.draw(st.sets(st.sampled_from([s.id for s in samples]), min_size=1))
    old = [s for s in samples if s.id in known]
    before = assign_splits(old, shares, group_samples(old, duplicates))
    torn = contested(samples, group_samples(samples, duplicates), earlier=before)
    assert not known & set(torn)
    left = [s for s in samples if s.id not in torn]
    groups = group_samples(left, duplicates)
    after = assign_splits(left, shares, groups, earlier=before)
    assert {name: after[name] for name in known} == before
    for name in set(groups.values()):  # and what arrived ties nothing across the splits
        assert len({after[s.id] for s in left if groups[s.id] == name}) == 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_batch_after_batch_every_split_keeps_its_share(sizes, validation, test):
    """Splits that freeze must not starve: small batches, each below one test image, still add up to test images."""
    shares, samples, splits = SplitFractions(validation, test, test_grows=True), [], {}
    for size in sizes:
        samples += [sample(f"n{len(samples) + n:04}") for n in range(size)]
        settled = settle(samples, [], shares, splits)
        splits = dict(settled.splits)
    counts = Counter(splits.values())
    assert abs(counts["validation"] - validation * len(samples)) <= 1
    assert abs(counts["test"] - test * len(samples)) <= 1


def test_a_new_image_of_a_known_patient_is_learned_from_only_if_the_patient_is():
    """It joins the training or the validation images of its patient. A test patient's is held back, by name."""
    old = [sample(f"n{n}", patient=f"p{n}") for n in range(20)]
    before = settle(old, [], SplitFractions()).splits
    new = [sample(f"later{n}", patient=f" P{n}", source="batches/x") for n in range(20)]
    after = settle([*old, *new], [], SplitFractions(), before)
    for n in range(20):
        if before[f"n{n}"] == "test":
            assert f"n{n} (test)" in after.held_back[f"later{n}"]
        else:
            assert after.splits[f"later{n}"] == before[f"n{n}"]
    grown = settle([*old, *new], [], SplitFractions(test_grows=True), before)
    assert not grown.held_back
    assert all(grown.splits[f"later{n}"] == before[f"n{n}"] for n in range(20))


# one person as different systems write them: case, spaces, a float of an integer, a number that lost its zeros
WRITINGS = {
    "p1": ("p1", "P1", " p1 ", "P1\u00a0"),
    "12": ("12", "12.0", "0012", " 12"),
    "\u00fc 7": ("\u00fc 7", "U\u0308  7"),
    "l1": ("l1", "L1"),
}


@st.composite
def histories(draw):
    """Some images a task was set up with and up to four deliveries, of people whose ids are written in many ways."""
    ids = st.sampled_from([*WRITINGS, "", ""]).flatmap(lambda name: st.sampled_from(WRITINGS.get(name, ("",))))
    stages: list[list[Sample]] = []
    for stage in range(draw(st.integers(2, 5))):
        source = f"batches/b{stage}" if stage else "clinic"
        stages.append(
            [
                sample(
                    f"s{stage}-{n:02}",
                    draw(st.sampled_from(LABELS)),
                    patient=draw(ids),
                    lesion=draw(ids),
                    source=source,
                )
                for n in range(draw(st.integers(1, 12)))
            ]
        )
    names = [s.id for stage in stages for s in stage]
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=6))
    return stages, pairs


@settings(deadline=None)
@given(histories(), fractions, st.randoms())
def test_whatever_is_delivered_no_person_crosses_splits_and_the_test_split_stays(history, shares, random):
    """A patient in two deliveries was learned from and tested on, and a test set that grows compares with nothing."""
    stages, pairs = history
    samples: list[Sample] = []
    splits: dict[str, str] = {}
    tested = None
    for stage in stages:
        samples += stage
        there = {s.id for s in samples}
        known = [(a, b) for a, b in pairs if a in there and b in there]
        settled = settle(samples, known, shares, splits)
        random.shuffle(samples)
        assert settle(samples, [(b, a) for a, b in reversed(known)], shares, splits) == settled
        assert set(settled.splits) | set(settled.held_back) == there
        assert not set(settled.splits) & set(settled.held_back)
        assert all(settled.splits[name] == where for name, where in splits.items() if name in settled.splits)
        for ids in ([normal_id(s.patient) for s in samples], [normal_id(s.lesion) for s in samples]):
            lying: dict[str, set[str]] = {}
            for s, name in zip(samples, ids, strict=True):
                if name and s.id in settled.splits:
                    lying.setdefault(name, set()).add(settled.splits[s.id])
            assert all(len(where) == 1 for where in lying.values())
        test = {name for name, where in settled.splits.items() if where == "test"}
        assert tested in (None, test)
        tested = test or None
        recent = {name for name, where in settled.splits.items() if where == RECENT}
        assert not recent & {s.id for s in stages[0]}, "what the task was set up with is not recent"
        assert shares.recent or not recent
        splits = dict(settled.splits)


@settings(deadline=None, max_examples=10)
@given(st.floats(0, 0.9), st.integers(0, 9))
def test_recent_is_a_share_of_those_who_come_however_they_come(share, seed):
    """Too small it says nothing of the patients of today; too large it starves training."""
    started = [sample(f"first{n}", LABELS[n % 3]) for n in range(60)]
    new = [sample(f"d{n}", source="batches/a") for n in range(300)]
    shares, found = SplitFractions(recent=share, seed=seed), []
    for at_once in (40, 300):
        splits = dict(settle(started, [], shares).splits)
        for number in range(0, 300, at_once):
            splits = dict(settle([*started, *new[: number + at_once]], [], shares, splits).splits)
        found.append({s.id for s in new if splits[s.id] == RECENT})
        nevi = [s.id for s in (*started, *new) if s.label == "nevus" and splits[s.id] != RECENT]
        assert abs(sum(splits[name] == "validation" for name in nevi) - 0.15 * len(nevi)) <= 1.5
    assert found[0] == found[1]
    assert abs(len(found[0]) - share * 300) <= 5 * (300 * share * (1 - share)) ** 0.5 + 1


def test_the_first_delivery_of_all_is_no_recent_one():
    """A task that was set up by a delivery needs its patients for training and test; the next one has recent ones."""
    shares = SplitFractions(recent=0.5)
    first = [sample(f"a{n}", source="batches/a") for n in range(20)]
    splits = settle(first, [], shares).splits
    assert set(splits.values()) == set(SPLITS)
    second = [sample(f"b{n}", source="batches/b") for n in range(20)]
    later = settle([*first, *second], [], shares, splits).splits
    assert {later[s.id] for s in first} == set(SPLITS)
    assert 3 < Counter(later[s.id] for s in second)[RECENT] < 17


def test_a_patient_put_aside_stays_aside_with_all_that_arrives_later():
    shares = SplitFractions(recent=0.5)
    old = [sample(f"n{n}", patient=f"p{n}") for n in range(20)]
    new = [sample(f"d{n}", patient=f"q{n}", source="batches/a") for n in range(20)]
    splits = settle([*old, *new], [], shares, settle(old, [], shares).splits).splits
    again = [sample(f"e{n}", patient=f"q{n}", source="batches/b") for n in range(20)]
    for setting in (shares, SplitFractions(recent=0.0)):
        later = settle([*old, *new, *again], [], setting, splits)
        assert not later.held_back
        assert all(later.splits[f"e{n}"] == splits[f"d{n}"] for n in range(20))
    copy = [sample("copy", patient="q0", source="batches/c")]
    lying = next(f"d{n}" for n in range(20) if (splits[f"d{n}"] == RECENT) != (splits["d0"] == RECENT))
    torn = settle([*old, *new, *copy], [("copy", lying)], shares, splits)
    assert "(recent)" in torn.held_back["copy"]
    assert "in either split it would leak" in torn.held_back["copy"]


def test_a_delivery_that_says_its_splits_and_is_believed_is_dealt_as_it_says():
    old = [sample(f"n{n}") for n in range(20)]
    shares = SplitFractions(recent=0.5)
    new = [sample(f"d{n}", source="batches/a", split="train") for n in range(20)]
    later = settle([*old, *new], [], shares, settle(old, [], shares).splits).splits
    assert RECENT not in later.values()


@given(st.permutations(["train", "validation", "test"]), st.sampled_from([(0, 1), (1, 2), (0, 2)]))
def test_of_two_published_copies_the_test_image_is_kept_then_the_validation_image(order, ends):
    """ISIC 2017 has copies between all three splits, one of them between validation and test."""
    chosen = [order[k] for k in ends]
    samples = [sample(f"a-{split}", split=split) for split in chosen]
    kept = max(chosen, key=SPLITS.index)
    settled = settle(samples, [(samples[0].id, samples[1].id)], SplitFractions())
    assert settled.splits[f"a-{kept}"] == kept
    (reason,) = settled.held_back.values()
    assert f"a-{kept} in the {kept} split" in reason


def test_of_three_published_copies_one_is_kept_though_only_two_pairs_are_known():
    """Identical images are each paired with the first: the pair of validation and test is not among the pairs."""
    samples = [sample(split, split=split) for split in SPLITS]
    settled = settle(samples, [("train", "validation"), ("train", "test")], SplitFractions())
    assert settled.splits == {"test": "test"}


def test_two_sources_that_number_different_people_alike_may_say_so():
    samples = [sample("a", patient="1", source="odir"), sample("b", patient="1", source="clinic")]
    samples += [sample("c", patient="1", source="batches/x"), sample("d", patient="1.0", source="batches/y/deeper")]
    assert len(set(group_samples(samples).values())) == 1
    apart = group_samples(samples, patients="per_source")
    assert len({apart["a"], apart["b"], apart["c"]}) == 3
    assert apart["c"] == apart["d"]  # one inbox is one place where people are numbered


def test_a_new_image_that_ties_two_splits_together_is_named_with_both():
    samples = [sample("a"), sample("b"), sample("link"), sample("beside")]
    groups = group_samples(samples, [("a", "link"), ("link", "b")])
    torn = contested(samples, groups, earlier={"a": "train", "b": "test"})
    assert list(torn) == ["link"]
    assert "a (train) and b (test)" in torn["link"]


def test_extra_data_like_a_test_image_do_not_pull_it_into_training():
    samples = [sample("mine"), sample("extra", source="archive")]
    groups = group_samples(samples, [("mine", "extra")])
    extra = frozenset({"archive"})
    assert assign_splits(samples, SplitFractions(), groups, extra, {"mine": "test"}) == {
        "mine": "test", "extra": "train",  # the rule `no_duplicates_across_splits` says so
    }  # fmt: skip


def test_what_was_unlabelled_goes_to_training_with_its_label():
    """A pseudo-label may have been learned from it, so it proves nothing of a later model."""
    samples = [sample(f"n{n}") for n in range(40)]
    earlier = {s.id: UNLABELLED for s in samples[:20]} | {s.id: "train" for s in samples[20:30]}
    after = assign_splits(samples, SplitFractions(0.3, 0.3), group_samples(samples), earlier=earlier)
    assert {after[s.id] for s in samples[:30]} == {"train"}
    assert {after[s.id] for s in samples[30:]} == {"validation", "test"}


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (ImageIdentity("a", "1", "x"), "test"),
        (ImageIdentity("moved", "renamed", "x"), "test"),
        (ImageIdentity("a", "1", "stored smaller"), "test"),
        (ImageIdentity("b", "1", "y"), None),  # a later source brought the same file name
    ],
)
def test_an_image_is_known_again(now, found):
    assert known_again({ImageIdentity("a", "1", "x"): "test"}, [now]).get(now.id) == found


def test_an_image_that_took_an_old_ones_id_does_not_take_its_split():
    old = {ImageIdentity("clinic", "IMG_1", "x"): "test"}
    new = [ImageIdentity("batches/a", "IMG_1", "y"), ImageIdentity("clinic", "clinic:IMG_1", "x")]
    assert known_again(old, new) == {"clinic:IMG_1": "test"}


def test_a_copy_delivered_later_is_a_new_image():
    """Else an official training image that is a copy of a test image would slip into the test set unsaid."""
    old = {ImageIdentity("a", "1", "x"): "test"}
    assert known_again(old, [ImageIdentity("a", "1", "x"), ImageIdentity("a", "2", "x")]) == {"1": "test"}
