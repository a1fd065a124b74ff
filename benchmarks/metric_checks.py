"""Do the measures of `filmweaver evaluate` see faults: perfect on truth, worse with every level?

    python -m benchmarks.metric_checks [--stories N] [--toy-judge FOLDER] [--json FILE] [--quick]

True toy films of held-out seeds are corrupted more and more, and measured as a model's films are
(fw_model/evaluation/self_test/metric_checks.py says which fault each measure must see). The exit
status is 1 if a measure misses its fault. --quick checks two stories, too few for every measure to
see its fault, and always exits with 0.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from benchmarks.report import Row, parser, report
from fw_model.evaluation.judges.toy_judge import PACKAGED_TOY_JUDGE, ToyJudge
from fw_model.evaluation.self_test.metric_checks import CHECKS, is_monotone, run_check
from pipelines.evaluation.true_films import true_films

FIRST_SEED = 2_000_000


def main() -> int:
    """Run every check."""
    arguments = _arguments()
    toy_judge = ToyJudge.load(arguments.toy_judge)
    num_stories = 2 if arguments.quick else arguments.stories
    films = true_films(range(FIRST_SEED, FIRST_SEED + num_stories))
    rows, missed = [], 0
    for check in CHECKS:
        scores = run_check(check, films, toy_judge)
        seen = is_monotone(check, scores)
        missed += not seen
        levels = zip(check.levels, scores, strict=True)
        steps = ", ".join(f"{level:g}: {score:.3f}" for level, score in levels)
        note = f"{'seen' if seen else 'MISSED'}; score by level of {check.fault}: {steps}"
        truth = None if math.isnan(scores[0]) else round(scores[0], 4)
        rows.append(Row(f"{check.metric} on truth", truth, held_out=True, note=note))
    share = Row("measures that see their fault", len(CHECKS) - missed, f"of {len(CHECKS)}", True)
    report(arguments, "metric_checks", [share, *rows])
    return 1 if missed and not arguments.quick else 0


def _arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--stories", type=int, default=24, help="true films to corrupt")
    made.add_argument("--toy-judge", type=Path, default=PACKAGED_TOY_JUDGE, help="its folder")
    return made.parse_args()


if __name__ == "__main__":
    sys.exit(main())
