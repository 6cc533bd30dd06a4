"""Which modules are mutated, how, and which tests must find it."""

from __future__ import annotations

from dataclasses import dataclass

OPERATORS = (
    "AddNot",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Lt_Gt",
    "ReplaceComparisonOperator_LtE_GtE",
    "ReplaceComparisonOperator_Gt_Lt",
    "ReplaceComparisonOperator_GtE_LtE",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ZeroIterationForLoop",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
)
"""Of cosmic-ray. Those of `|` and `*` would change annotations and unpacked arguments only."""


@dataclass(frozen=True)
class Group:
    """Modules that the same tests cover. Those tests run that call the mutated function."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    more: tuple[str, ...] = ()
    """Slower tests (`--slow`), for those that survive the others."""


_HISTORIES = "tests/campaign/inbound/test_histories.py::"

GROUPS = {
    "inbound": Group(
        modules=tuple(
            f"users/sync/inbound/{name}.py"
            for name in ("links", "values", "decisions", "addresses", "facts", "group", "notes")
        ),
        tests=(
            "tests/test_facts.py",
            "tests/test_derived_links.py",
            "tests/test_derived_values.py",
        ),
        more=(
            _HISTORIES + "test_any_order_of_all_facts_ends_alike",
            _HISTORIES + "test_truths_hold_when_facts_are_lost_or_late",
            "tests/test_inbound_sets.py",
            "tests/test_late_facts.py",
            "tests/test_inbound.py",
        ),
    ),
    "comparison": Group(
        modules=("users/sync/mirror/comparison.py",),
        tests=("tests/test_comparison.py", "tests/test_clerk_diff.py"),
    ),
    "save": Group(
        modules=tuple(
            f"users/sync/outbound/{name}.py"
            for name in ("dual_write", "exchange", "journal", "conflicts", "pending", "repeats")
        ),
        tests=(
            "tests/test_journal.py",
            "tests/test_conflicts.py",
            "tests/test_unknown_outcomes.py",
            "tests/test_change_form.py",
            "tests/test_double_click.py",
            "tests/test_told_later.py",
            "tests/test_account_actions.py",
            "tests/test_create_account.py",
        ),
    ),
    "recovery": Group(
        modules=tuple(
            f"users/sync/outbound/{name}.py"
            for name in ("recovery", "completion", "constraints", "holders", "locks", "revocation")
        ),
        tests=(
            "tests/test_recovery.py",
            "tests/test_unknown_outcomes.py",
            "tests/test_told_later.py",
            "tests/test_found_by_campaign.py",
            "tests/test_invitations.py",
        ),
    ),
}
