"""What a finished run leaves for a reader beside its results: its models against one another, as a page and as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.pipeline.places import PICTURE, REPORT, RESULTS


def leave_report(run_dir: Path) -> None:
    """Write both into the run directory, and print where they are; nothing where the run was not evaluated. The run is done
    whatever becomes of this: what goes wrong is printed."""
    if not (run_dir / RESULTS).exists():
        return
    from trainer.compare.build import compare  # heavy, these four: only a run that has come this far needs them
    from trainer.compare.html import write_html
    from trainer.compare.picture import draw_pareto
    from trainer.results.directories import read_directories

    left = {"report": run_dir / REPORT}
    try:
        comparison = compare(*read_directories([run_dir]))
        write_html(comparison, run_dir / REPORT)
        if comparison.paretos:
            left = {"picture": run_dir / PICTURE, **left}
            draw_pareto(comparison, comparison.paretos[0], run_dir / PICTURE)
    except Exception as error:
        print(
            f"{REPORT}: not written ({type(error).__name__}: {error}); the run is not affected. "
            f"python -m trainer.compare {run_dir} --out DIR tries again.",
            file=sys.stderr,
        )
    else:
        print("   ".join(f"{name}: {path}" for name, path in left.items()), flush=True)
