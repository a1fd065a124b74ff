"""Do the measures of `filmweaver evaluate` see faults? Perfect on truth, worse with every level?

    python benchmarks/metric_checks.py [--stories N] [--toy-judge FOLDER] [--json FILE]

True toy films of held-out seeds are spoiled on purpose, more and more, and measured as a model's
films are (fw_model/evaluation/self_test/metric_checks.py says which fault each measure must see).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fw_model.evaluation.judges.toy_judge import PACKAGED_TOY_JUDGE, ToyJudge
from fw_model.evaluation.self_test.metric_checks import CHECKS, is_monotone, run_check
from pipelines.evaluation.true_films import true_films

FIRST_SEED = 2_000_000


def main() -> int:
    """Print a table; the exit status is 1 if a measure misses its fault."""
    arguments = _arguments()
    toy_judge = ToyJudge.load(arguments.toy_judge)
    films = true_films(range(FIRST_SEED, FIRST_SEED + arguments.stories))
    found = []
    for check in CHECKS:
        scores = run_check(check, films, toy_judge)
        monotone = is_monotone(check, scores)
        steps = "  ".join(
            f"{level:g}: {score:.3f}" for level, score in zip(check.levels, scores, strict=True)
        )
        print(f"{check.metric:26} {check.fault:24} {'ok' if monotone else 'MISSED':7} {steps}")
        found.append(
            {
                "metric": check.metric,
                "fault": check.fault,
                "levels": check.levels,
                "scores": [round(score, 4) for score in scores],
                "monotone": monotone,
            }
        )
    if arguments.json:
        content = {"stories": arguments.stories, "toy_judge": toy_judge.card.get("held_out"),
                   "checks": found}  # fmt: skip
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["monotone"] for row in found) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=int, default=24, help="true films to spoil")
    parser.add_argument("--toy-judge", type=Path, default=PACKAGED_TOY_JUDGE, help="its folder")
    parser.add_argument("--json", type=Path, help="file to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
