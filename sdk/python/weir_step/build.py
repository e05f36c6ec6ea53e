"""`python -m weir_step.build app.py -o step.wasm`: makes a component of a step's source.

`weir apply` asks for a grant for each import of log, secrets and HTTP, so the component imports what the source does: the step
itself, and the modules beside it that it imports, are searched for `weir_step.log` and its like.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

INTERFACES = {
    "http": "wasi:http/outgoing-handler@0.2.12",
    "log": "weir:step/log@1.0.0",
    "secrets": "weir:step/secrets@1.0.0",
    "settings": "weir:step/settings@1.0.0",
}
_HERE = Path(__file__).parent
_RUN = "import sys; from componentize_py import script; sys.exit(script())"


def build(source: Path, out: Path) -> set[str]:
    """Builds `source` into `out`; gives the modules of INTERFACES that it uses."""
    used = uses(source)
    with tempfile.TemporaryDirectory(prefix="weir-step-") as name:
        work = Path(name)
        _world(work / "wit", used)
        # Loaded before the snapshot, or they would be missing at run time: there are no files then.
        lines = [f"import weir_step.{name}" for name in ["_random", *sorted(used)]]
        lines += [f"import {source.stem}", "from weir_step._component import WitWorld"]
        (work / "weir_entry.py").write_text("\n".join(lines) + "\n")
        paths = [work, source.parent, _HERE.parent, Path(sysconfig.get_path("purelib"))]
        arguments = ["--quiet", "--wit-path", work / "wit", "--world", "app"]
        arguments += ["--import-interface-name", "weir:step/types@1.0.0=weir_types"]
        if "http" in used:
            arguments += ["--import-interface-name", "wasi:http/types@0.2.12=weir_http"]
        arguments += ["componentize", "weir_entry", "--output", out]
        arguments += [argument for path in paths for argument in ("--python-path", path)]
        out.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-c", _RUN, *map(str, arguments)], check=True)
    return used


def uses(source: Path) -> set[str]:
    """The modules of INTERFACES that `source`, and what it imports of the folder that it is in, name anywhere."""
    used: set[str] = set()
    seen: set[Path] = set()
    left = [source]
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _imported(ast.parse(path.read_text(), str(path))):
            package, _, rest = name.partition(".")
            if package == "weir_step":
                used.update({rest.partition(".")[0]} & INTERFACES.keys())
            else:
                left += _files(source.parent, name)
    return used


def _imported(tree: ast.AST) -> list[str]:
    """Every dotted name that is imported, `from a import b` as `a` and `a.b`."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names += [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
    return names


def _files(root: Path, module: str) -> list[Path]:
    path = root.joinpath(*module.split("."))
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if module and file.is_file()]


def _world(folder: Path, used: set[str]) -> None:
    """A WIT folder with the world `app`: a step that imports what is used."""
    deps = folder / "deps"
    (deps / "step").mkdir(parents=True)
    shutil.copy(_HERE / "wit" / "step.wit", deps / "step" / "step.wit")
    if "http" in used:
        shutil.copytree(_HERE / "wit" / "http", deps, dirs_exist_ok=True)
    imports = "".join(f"    import {INTERFACES[name]};\n" for name in sorted(used))
    (folder / "app.wit").write_text(
        f"package weir:app;\n\nworld app {{\n    include weir:step/step@1.0.0;\n{imports}}}\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m weir_step.build", description="Makes a component of a step's source.")
    parser.add_argument("source", nargs="?", default="app.py", type=Path)
    parser.add_argument("-o", "--output", default="step.wasm", type=Path)
    options = parser.parse_args()
    try:
        used = build(options.source.resolve(), options.output.resolve())
    except subprocess.CalledProcessError:
        return 1
    except (OSError, SyntaxError) as error:
        print(error, file=sys.stderr)
        return 1
    names = ", ".join(INTERFACES[name] for name in sorted(used)) or "nothing of weir:step"
    print(f"{options.output}: {options.output.stat().st_size / 2**20:.1f} MiB, imports {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
