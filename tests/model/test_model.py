"""The model finds what it must and nothing else: the smallest searches of `python3 -m model --short`."""

import ast
from pathlib import Path

import pytest

import model
from model import cli
from model.configs import BY_NAME, first_state
from model.effects import land
from model.expected import is_expected, without_tags
from model.operations import step
from model.rules import FINAL, MUTANTS, RULES, Rule
from model.search import search
from model.steps import Do, End, Go
from model.verdict import SHORT, Verdict, final, judge, without, witnesses
from model.world import Cfg, Eff, Record, Run, State

QUICK = ("given-up", "tombstone", "own-placeholder", "one-attempt", "trash", "cancel-looks", "holder")
QUICK_SINCE = ("fence-epoch", "epoch", "torn", "lost-kept", "claim-wait", "takes")
QUICK_MUTANTS = ("MUTANT early delete", "MUTANT no lineage", "MUTANT no compare", "MUTANT no confirm")


@pytest.mark.parametrize("name", ["undo-k8s", "foreign", "docker-half", "first-2late", "rolled-back", "torn"])
def test_final_protocol_is_exhausted_and_shows_only_admitted_windows(name: str) -> None:
    """The smallest configurations, among them one per backend, to the end."""
    verdict = judge(final(name))
    assert verdict.result.complete
    assert verdict.unexpected == []
    assert verdict.is_right


@pytest.mark.parametrize("name", [*QUICK, *QUICK_SINCE, *QUICK_MUTANTS])
def test_dropped_rule_or_mutant_brings_its_trace_back(name: str) -> None:
    """A rule that nothing needs is no rule; a mutant that nobody sees means a blind checker."""
    verdict = _witnessed(name)
    (kind, *_) = [kind for kind in verdict.unexpected if kind.startswith(verdict.task.shows)]
    assert any("call" in label for label in verdict.result.findings[kind].trace)


def _witnessed(name: str) -> Verdict:
    (task,) = [t for t in witnesses() if t.variant in (name, "without " + name)]
    verdict = judge(task)
    assert verdict.is_right
    return verdict


@pytest.mark.field("D9")
@pytest.mark.parametrize("name", ["prove-again", "MUTANT HEAD suffices"])
def test_head_is_no_evidence_for_a_deletion_in_a_mirrored_bucket(name: str) -> None:
    """With it the volume goes, and only a rotten copy is left; read back again, nothing is lost and nothing stuck."""
    assert "1 NO COMPLETE COPY" in _witnessed(name).unexpected
    assert judge(final("mirror-dir")).is_right


@pytest.mark.field("D10")
def test_volume_that_vanished_is_never_covered_up() -> None:
    """Not by provision, archive or restore, and not by the run after the one that would have told."""
    assert judge(final("pruned")).is_right
    assert "3 provision covered a loss up" in _witnessed("lost").unexpected


@pytest.mark.field("L10")
def test_one_place_wins() -> None:
    """Two Temporal servers, one record: the claim looks and takes in one PUT."""
    assert judge(final("two-places-min")).is_right
    assert "3 two volumes are handed out" in _witnessed("one-put").unexpected


@pytest.mark.field("O1")
def test_mover_that_outlives_its_lease_is_stopped_on_every_path() -> None:
    """Also where a cancel meets the lease between two attempts, so that no lease stops anything."""
    assert judge(final("handover")).is_right
    assert "3 an older mover still writes" in _witnessed("detach").unexpected


def test_unexpected_finding_or_truncated_search_is_not_right() -> None:
    """The final protocol's verdict can fail, for both reasons."""
    rule = next(r for r in RULES if r.name == "given-up")
    broken = judge(without(rule, "undo-k8s")._replace(wants="nothing"))
    assert broken.result.complete
    assert not broken.is_right
    cut_off = search(final("undo-k8s").cfg, states=100)
    assert not cut_off.complete
    assert not Verdict(final("undo-k8s"), cut_off, []).is_right


def test_missing_trace_is_not_right() -> None:
    """A search to the end that finds nothing refutes the claim that the rule is needed."""
    unneeded = Rule("revision", "", "", "undo-k8s", "1 ")
    assert not judge(without(unneeded, "undo-k8s")._replace(wants="trace", shows="1 ")).is_right


def test_bad_way_to_a_known_state_is_noted() -> None:
    """Violations belong to edges: that an innocent way leads to the same state must not hide the other one."""
    found = judge(final("stale-user")).result.findings
    assert "3 archive returned without proof*" in map(without_tags, found)


@pytest.mark.slow  # it starts processes of its own for all cores, which are busy in `make test`
def test_exit_code_and_last_line_say_what_was_exhausted(capsys: pytest.CaptureFixture[str]) -> None:
    """What CI relies on."""
    assert cli.main(["undo-k8s", "--fixed", "--jobs", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "1 configurations exhausted" in last
    assert "0 wrong" in last


def test_exit_code_is_1_where_the_final_protocol_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect fails the build."""
    rule = next(r for r in RULES if r.name == "given-up")
    failed = judge(without(rule, "undo-k8s")._replace(wants="nothing"))
    monkeypatch.setattr(cli, "judge_all", lambda tasks, jobs: iter([failed]))
    assert cli.main(["undo-k8s", "--fixed"]) == 1


def test_unknown_configuration_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name is not an empty success."""
    assert cli.main(["no-such"]) == 2
    assert "no-such" in capsys.readouterr().out


def test_every_numbered_rule_has_a_witness() -> None:
    """H1 to H13 are each dropped by the short form, and what the bucket asks for; each mutant is tried."""
    assert {rule.mark for rule in RULES if rule.witness} >= {f"H{n}" for n in range(1, 14)} | {"C2", "C3"}
    assert all(rule.witness for rule in RULES if rule.mark)
    assert all(mutant.witness in BY_NAME for mutant in MUTANTS)
    assert set(SHORT) <= set(BY_NAME)


def test_rules_that_the_steps_ask_for_are_those_that_are_listed() -> None:
    """A misspelt rule would be off for ever, and dropping it would change nothing."""
    asked = set()
    for path in Path(model.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "cfg.rules":
                asked.add(ast.literal_eval(node.left))
    assert asked == FINAL | {mutant.name for mutant in MUTANTS}


def test_captured_put_of_the_record_dies_with_its_revision() -> None:
    """A-B-A of the record is impossible, unless the revision is dropped."""
    claimed, other = Record(1), Record(2)
    late = Eff("rec.put", 1, claimed, Record(1, state="ready"))
    before, put = State(claimed, late=(late,)), Eff("rec.put", 2, claimed, other)
    cfg = BY_NAME["undo-k8s"]
    assert land(before, put, cfg._replace(rules=FINAL))[0].late == ()
    assert land(before, put, cfg._replace(rules=FINAL - {"revision"}))[0].late == (late,)


def test_admitted_findings_are_admitted_for_their_configuration_only() -> None:
    """A lost copy is admitted after a stale write on Kubernetes, and nowhere else."""
    kind = "1 NO COMPLETE COPY (stale write after the last check)"
    assert is_expected(kind, BY_NAME["stale-k8s"])
    assert not is_expected("1 NO COMPLETE COPY", BY_NAME["stale-k8s"])
    assert not is_expected(kind, BY_NAME["stale-user"])


@pytest.mark.parametrize("state", ["deleting", "gone"])
def test_cancelled_archive_finishes_a_deletion_that_it_finds(state: str) -> None:
    """Past the gate of an earlier run it is too late: the run ends ok, and the volume is gone."""
    cfg = BY_NAME["warm"]._replace(rules=FINAL)
    assert _cancelled_at_once(cfg, state) == "ok"


@pytest.mark.parametrize("state", ["ready", "archived"])
def test_cancelled_archive_leaves_a_ready_volume(state: str) -> None:
    """Before the seal the volume is given back, whether it has changed or not."""
    cfg = BY_NAME["warm"]._replace(rules=FINAL)
    assert _cancelled_at_once(cfg, state) == "Cancelled"


def _cancelled_at_once(cfg: Cfg, state: str) -> str:
    """An archive started already cancelled, on a volume that an earlier one brought to `state`."""
    s = first_state(cfg)
    assert s.rec is not None
    if state != "ready":
        recorded = "deleting" if state == "gone" else state
        s = s._replace(rec=s.rec._replace(state=recorded, aid=("A", 0), fp=2))
    if state == "gone":
        s = s._replace(vol=None)
    run = Run("archive", 1, 1, "claim", cancel=True)
    for _ in range(20):
        outcome = step(s, run, cfg)
        if isinstance(outcome, End):
            is_left = s.vol is not None and s.rec is not None and s.rec.state == "ready"
            assert is_left == (outcome.result == "Cancelled")
            return outcome.result
        if isinstance(outcome, Go):
            run = outcome.run
        if isinstance(outcome, Do):
            s, answer = land(s, outcome.effect, cfg)
            run = outcome.done if answer else outcome.refused
    raise AssertionError("never ends")
