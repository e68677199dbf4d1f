"""Claims, the numbers recorded for them, and the verdicts that follow."""

from xai_lib.study.claims import Claim, Criterion, Revision, load_claims, load_papers
from xai_lib.study.ledger import ledger, record, rows, verdict
from xai_lib.study.recorded import recorded
from xai_lib.study.statistics import bootstrap
from xai_lib.study.summaries import check_table, summary
from xai_lib.study.verdicts import Check, Verdict, decide

__all__ = [
    "Check",
    "Claim",
    "Criterion",
    "Revision",
    "Verdict",
    "bootstrap",
    "check_table",
    "decide",
    "ledger",
    "load_claims",
    "load_papers",
    "record",
    "recorded",
    "rows",
    "summary",
    "verdict",
]
