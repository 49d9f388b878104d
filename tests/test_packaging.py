"""What is installed, from which versions, and what the repository may hold."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy, so that no build folder appears in the clone."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs the build backend: setuptools is not installed")
    source = tmp_path_factory.mktemp("source")
    target = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", PROJECT["readme"], "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("sj_ext", "benchmarks", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    build += ["--no-build-isolation", "--wheel-dir", str(target), str(source)]
    subprocess.run(build, check=True, cwd=target)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The METADATA of the wheel: what pip reads."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def requirements(metadata: Message, extra: str = "") -> dict[str, Requirement]:
    """The requirements that hold for `extra` alone, or for no extra, by name."""
    found = {}
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        marker = requirement.marker
        if (marker is not None and marker.evaluate({"extra": extra})) or (
            marker is None and not extra
        ):
            found[requirement.name.lower()] = requirement
    return found


def pins(*names: str) -> dict[str, str]:
    """The versions pinned by constraints files."""
    pinned = {}
    for name in names:
        for line in (ROOT / "constraints" / name).read_text().splitlines():
            if line and not line.startswith(("#", "-c ")):
                package, version = line.split("==")
                pinned[normalized(package)] = version
    return pinned


def normalized(package: str) -> str:
    """The form in which package names are compared."""
    return re.sub(r"[-_.]+", "-", package).lower()


def python(code: str, cwd: Path, **environment: str) -> str:
    """What `code` prints in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestWheel:
    def test_it_holds_sj_ext_alone(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            top = {name.split("/")[0] for name in archive.namelist()}
        assert top == {"sj_ext", f"sj_ext-{PROJECT['version']}.dist-info"}

    def test_it_holds_every_module_the_type_marker_and_the_licence(
        self, wheel: Path
    ) -> None:
        with zipfile.ZipFile(wheel) as archive:
            held = set(archive.namelist())
        modules = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "sj_ext").rglob("*.py")
        }
        assert modules <= held
        assert "sj_ext/py.typed" in held
        assert any(re.fullmatch(r".*\.dist-info/.*LICENSE", name) for name in held)

    def test_it_works_without_the_clone(self, wheel: Path, tmp_path: Path) -> None:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        install += ["--no-index", "--target", str(tmp_path / "site"), str(wheel)]
        subprocess.run(install, check=True, cwd=tmp_path)
        path = os.pathsep.join(
            [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        code = """
            import importlib, pkgutil, sj_ext
            for module in pkgutil.walk_packages(sj_ext.__path__, "sj_ext."):
                if "_release_" not in module.name:
                    importlib.import_module(module.name)
            print(sj_ext.__file__)
            print(sj_ext.__version__)
        """
        code = re.sub(r"^ {12}", "", code, flags=re.MULTILINE)
        file, version = python(code, tmp_path, PYTHONPATH=path).splitlines()
        assert Path(file).is_relative_to(tmp_path / "site")
        assert version == PROJECT["version"]


class TestRequirements:
    @pytest.mark.parametrize(
        ("package", "accepted", "refused"),
        [
            (
                "spikingjelly",
                ["2.0.0rc1", "2.0.0"],
                ["0.0.0.0.14", "2.0.0.dev2", "2.0.1", "2.1.0"],
            ),
            ("torch", ["2.6.0", "2.11.0"], ["2.5.1", "2.12.0", "2.15.0"]),
            ("numpy", ["1.26.4", "2.4.6"], []),
        ],
    )
    def test_the_package_asks_for_what_it_supports(
        self, metadata: Message, package: str, accepted: list[str], refused: list[str]
    ) -> None:
        specifier = requirements(metadata)[package].specifier
        assert all(specifier.contains(v, prereleases=True) for v in accepted)
        assert not any(specifier.contains(v, prereleases=True) for v in refused)

    def test_the_library_needs_no_more_than_it_says(self, metadata: Message) -> None:
        assert set(requirements(metadata)) == {
            "spikingjelly",
            "torch",
            "numpy",
            "numba",
            "matplotlib",
            "tqdm",
        }

    @pytest.mark.parametrize(
        ("extra", "cupy"), [("cupy12", "cupy-cuda12x"), ("cupy13", "cupy-cuda13x")]
    )
    def test_cupy_extras_pin_the_release_that_has_cupy_kernels(
        self, metadata: Message, extra: str, cupy: str
    ) -> None:
        added = requirements(metadata, extra)
        assert str(added["spikingjelly"].specifier) == "==2.0.0rc1"
        assert set(added) == {"spikingjelly", cupy}

    def test_python_older_than_3_11_is_refused(self, metadata: Message) -> None:
        assert metadata["Requires-Python"] == ">=3.11"

    @pytest.mark.parametrize("package", ["matplotlib", "lightning", "jsonargparse"])
    def test_importing_the_library_loads_no(self, package: str, tmp_path: Path) -> None:
        code = "import sys, sj_ext; print(*{m.split('.')[0] for m in sys.modules})"
        path = os.pathsep.join(
            [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        loaded = python(code, tmp_path, PYTHONPATH=path).split()
        assert "sj_ext" in loaded
        assert not [name for name in loaded if name.startswith(package)]


class TestConstraints:
    @pytest.mark.parametrize(
        ("name", "release"), [("default", "2.0.0"), ("cupy", "2.0.0rc1")]
    )
    def test_each_host_has_a_file_that_pins_it(self, name: str, release: str) -> None:
        assert "-c common.txt" in (ROOT / "constraints" / f"{name}.txt").read_text()
        assert pins(f"{name}.txt")["spikingjelly"] == release
        assert "spikingjelly" not in pins("common.txt")

    def test_every_requirement_is_pinned_to_a_version_that_it_accepts(self) -> None:
        extras = PROJECT["optional-dependencies"]
        for extra, listed in {"": PROJECT["dependencies"], **extras}.items():
            host = "cupy.txt" if extra.startswith("cupy") else "default.txt"
            pinned = pins("common.txt", host)
            for requirement in map(Requirement, listed):
                if normalized(requirement.name) == normalized(PROJECT["name"]):
                    # Another of its own extras.
                    assert requirement.extras <= set(extras)
                    continue
                version = pinned[normalized(requirement.name)]
                assert requirement.specifier.contains(version, prereleases=True)


class TestMake:
    """The Makefile with a stand-in for the environment's Python, so without pip."""

    @pytest.fixture
    def clone(self, tmp_path: Path) -> Path:
        if shutil.which("make") is None:
            pytest.skip("needs make")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, tmp_path)
        shutil.copytree(ROOT / "constraints", tmp_path / "constraints")
        interpreter = tmp_path / "stand-in"
        interpreter.write_text(
            "#!/bin/sh\n"
            'echo "$*" >> "$CALLS"\n'
            'case "$1 $2" in\n'
            '"-c "*) exec "$REAL_PYTHON" "$@" ;;\n'
            '"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;\n'
            '"-m pip") exit "${PIP_STATUS:-0}" ;;\n'
            "esac\n"
        )
        interpreter.chmod(0o755)
        return tmp_path

    def make(
        self, clone: Path, *arguments: str, **environment: str
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        calls = clone / "calls"
        calls.write_text("")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in {"ARGS", "CUPY", "HOST", "MAKEFLAGS", "MAKELEVEL", "PYTHON"}
        }
        done = subprocess.run(
            ["make", *arguments],
            cwd=clone,
            env=inherited
            | {"CALLS": str(calls), "REAL_PYTHON": sys.executable}
            | {"PYTHON": str(clone / "stand-in")}
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        ran = [c for c in calls.read_text().splitlines() if c.startswith("-m")]
        return done, ran

    def test_a_second_call_installs_nothing(self, clone: Path) -> None:
        _, first = self.make(clone, "quickstart")
        _, second = self.make(clone, "quickstart")
        assert [call.split()[1] for call in first] == ["venv", "pip", "benchmarks"]
        assert "-c constraints/default.txt -e .[benchmarks]" in first[1]
        assert second == ["-m benchmarks quickstart"]

    def test_the_tests_environment_serves_the_quickstart_too(self, clone: Path) -> None:
        _, first = self.make(clone, "test")
        _, second = self.make(clone, "quickstart")
        assert "-e .[benchmarks,test]" in first[1]
        assert second == ["-m benchmarks quickstart"]

    def test_new_requirements_are_installed(self, clone: Path) -> None:
        self.make(clone, "install")
        _, unchanged = self.make(clone, "install")
        later = (clone / ".venv/.installed-for-runs").stat().st_mtime + 10
        os.utime(clone / "constraints/common.txt", (later, later))
        _, changed = self.make(clone, "install")
        assert unchanged == []
        assert [call.split()[1] for call in changed] == ["pip"]

    def test_an_interrupted_installation_is_started_again(self, clone: Path) -> None:
        failed, _ = self.make(clone, "test", PIP_STATUS="1")
        done, calls = self.make(clone, "test")
        assert failed.returncode != 0
        assert "did not end" in done.stdout
        assert [call.split()[1] for call in calls] == ["venv", "pip", "pytest"]

    def test_an_environment_made_by_hand_is_used_and_never_removed(
        self, clone: Path
    ) -> None:
        (clone / ".venv/bin").mkdir(parents=True)
        shutil.copy(clone / "stand-in", clone / ".venv/bin/python")
        self.make(clone, "test", PIP_STATUS="1")
        _, calls = self.make(clone, "test")
        self.make(clone, "clean")
        assert [call.split()[1] for call in calls] == ["pip", "pytest"]
        assert (clone / ".venv/bin/python").exists()

    @pytest.mark.parametrize("given", ["before", "after"])
    def test_the_cupy_host_has_an_environment_of_its_own(
        self, clone: Path, given: str
    ) -> None:
        if given == "before":
            _, calls = self.make(clone, "install", HOST="cupy")
        else:
            _, calls = self.make(clone, "install", "HOST=cupy")
        assert calls[0] == "-m venv .venv-cupy"
        assert "-c constraints/cupy.txt -e .[benchmarks,cupy13]" in calls[1]

    def test_an_unknown_host_is_an_error_that_names_the_known(
        self, clone: Path
    ) -> None:
        done, calls = self.make(clone, "install", "HOST=cuda")
        assert done.returncode != 0
        assert "Expected `HOST` to be `default` or `cupy`, got `cuda`" in done.stderr
        assert calls == []

    def test_a_shell_that_exports_its_machine_as_host_disturbs_nothing(
        self, clone: Path
    ) -> None:
        done, calls = self.make(clone, "install", HOST="lab-12")
        assert done.returncode == 0
        assert "lab-12" in done.stdout
        assert calls[0] == "-m venv .venv"

    def test_an_old_python_is_refused_with_a_way_out(self, clone: Path) -> None:
        old = clone / "python3.10"
        old.write_text(
            "#!/bin/sh\n"
            'code=$(echo "$2" | sed "s/sys.version_info/(3, 10, 4)/g")\n'
            'exec "$REAL_PYTHON" -c "$code"\n'
        )
        old.chmod(0o755)
        done, calls = self.make(clone, "test", PYTHON=str(old))
        assert done.returncode != 0
        assert "Expected Python >= 3.11, got 3.10" in done.stderr
        assert "make test PYTHON=python3.12" in done.stderr
        assert calls == []
        assert not (clone / ".venv").exists()


class TestRepository:
    @pytest.fixture
    def tracked(self) -> list[Path]:
        """Every file in git."""
        git = shutil.which("git")
        if git is None or not (ROOT / ".git").exists():
            pytest.skip("needs a clone: there is no git or no .git here")
        listing = subprocess.run(
            [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
        )
        paths = [ROOT / name for name in listing.stdout.split("\0") if name]
        if ROOT / "pyproject.toml" not in paths:
            pytest.skip(f"needs a clone with commits: {listing.stderr or 'no files'}")
        return [path for path in paths if path.is_file()]

    def test_no_file_is_over_300_kB_but_pictures_of_the_readme(
        self, tracked: list[Path]
    ) -> None:
        readme = (ROOT / "README.md").read_text()
        pictures = {
            path
            for path in tracked
            if path.suffix in {".gif", ".jpg", ".png", ".svg"} and path.name in readme
        }
        large = [p for p in tracked if p.stat().st_size > 300_000 and p not in pictures]
        assert large == []

    def test_all_files_together_are_under_5_MB(self, tracked: list[Path]) -> None:
        assert sum(path.stat().st_size for path in tracked) < 5_000_000

    def test_no_checkpoint_recording_or_report_is_kept(
        self, tracked: list[Path]
    ) -> None:
        kept_out = {".aedat", ".bin", ".html", ".npz", ".pt", ".pth", ".whl"}
        assert [path for path in tracked if path.suffix in kept_out] == []

    @pytest.mark.parametrize("name", ["CITATION.cff", "CHANGELOG.md"])
    def test_the_version_is_that_of_the_package(self, name: str) -> None:
        pattern = r"^(?:version: |## \[)([0-9][0-9a-z.]*)"
        text = (ROOT / name).read_text()
        assert re.findall(pattern, text, re.MULTILINE)[0] == PROJECT["version"]
