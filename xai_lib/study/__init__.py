"""Claims, their numbers and verdicts; the grid of models, methods and metrics."""

from xai_lib.study.claims import Claim, Criterion, Revision, load_claims, load_papers
from xai_lib.study.conclusions import conclusions, overview
from xai_lib.study.grid import Grid, run
from xai_lib.study.ledger import ledger, record, rows, verdict
from xai_lib.study.metrics import METRICS, Metric
from xai_lib.study.parts import PROVENANCE
from xai_lib.study.recorded import read_table, recorded, scores_by_cutoff, thousandths
from xai_lib.study.statistics import bootstrap
from xai_lib.study.summaries import check_table, summary
from xai_lib.study.trial import Trial, trial
from xai_lib.study.trial_texts import QUESTIONS
from xai_lib.study.units import CONTROLS
from xai_lib.study.verdicts import Check, Verdict, decide

__all__ = [
    "CONTROLS",
    "METRICS",
    "PROVENANCE",
    "QUESTIONS",
    "Check",
    "Claim",
    "Criterion",
    "Grid",
    "Metric",
    "Revision",
    "Trial",
    "Verdict",
    "bootstrap",
    "check_table",
    "conclusions",
    "decide",
    "ledger",
    "load_claims",
    "load_papers",
    "overview",
    "read_table",
    "record",
    "recorded",
    "rows",
    "run",
    "scores_by_cutoff",
    "summary",
    "thousandths",
    "trial",
    "verdict",
]
