"""The committed notebooks are what their lessons say, in both languages, small, executed, and of no machine."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("nbformat", reason="the extra `tutorials` is not installed")
pytest.importorskip("nbclient", reason="the extra `tutorials` is not installed")
sys.path.insert(0, str(Path(__file__).parent.parent / "scripts" / "tutorials"))

import build

LESSONS = sorted(build.LESSONS.glob("*.md"))


def test_there_are_eleven_lessons():
    assert [lesson.stem[:2] for lesson in LESSONS] == [f"{number:02}" for number in range(1, 12)]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_the_notebooks_are_what_the_lesson_says(lesson):
    assert list(build.problems(lesson)) == []


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.stem)
def test_both_languages_have_the_same_cells(lesson):
    english, chinese = (build.cells_of(lesson, language) for language in build.LANGUAGES)
    assert [kind for kind, _ in english] == [kind for kind, _ in chinese]
    for (kind, said), (_, translated) in zip(english, chinese, strict=True):
        assert said.strip() and translated.strip() and "‖" not in said + translated
        if kind == "markdown":
            assert said.count("\n## ") == translated.count("\n## ") and said.count("\n- ") == translated.count("\n- ")


EXERCISES = sorted((build.ROOT / "scripts" / "exercises").glob("[0-9]*.md"))


@pytest.mark.parametrize("source", [*LESSONS, *EXERCISES], ids=lambda source: source.stem)
def test_what_is_said_of_outputs_is_held_by_assertions(source):
    """Each hidden test runs behind a code cell, asserts something, and stays out of the notebook."""
    for language in build.LANGUAGES:
        cells, tests = build.cells_of(source, language), build.tests_of(source, language)
        assert len(tests) >= (3 if source in LESSONS else 1)
        for number, test in tests.items():
            assert cells[number][0] == "code" and "assert " in test
            compile(test, source.name, "exec")
            assert not any(test in text for _, text in cells)


def test_a_pair_becomes_one_of_its_languages():
    code = 'a = "one ‖ 一"  # two ‖ 二\nb = "three"\nf("""four ‖ 四""")'
    take = {
        language: build.TEXT.sub(lambda match, language=language: build.spoken(match[0], language), code)
        for language in build.LANGUAGES
    }
    assert take["en"] == 'a = "one"  # two\nb = "three"\nf("""four""")'
    assert take["zh"] == 'a = "一"  # 二\nb = "three"\nf("""四""")'


def test_out_of_date_notebooks_are_told(tmp_path, monkeypatch):
    lesson = tmp_path / "01_x.md"
    lesson.write_text(
        "<!-- en -->\n# One\n<!-- zh -->\n# 一\n<!-- code -->\n```python\nprint(1)\n```\n", encoding="utf-8"
    )
    monkeypatch.setattr(build, "ROOT", tmp_path)
    assert "does not exist" in next(build.problems(lesson))
    import nbformat

    for language in build.LANGUAGES:
        notebook = build.notebook_of(lesson, language)
        notebook.cells[1].execution_count = 1
        build.path_of(lesson, language).parent.mkdir(parents=True)
        nbformat.write(notebook, build.path_of(lesson, language))
    assert list(build.problems(lesson)) == []
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stderr", text="[WARNING] two\nlines")]
    build.clean(notebook)
    nbformat.write(notebook, build.path_of(lesson, language))
    assert list(build.problems(lesson)) == ["tutorials/zh/01_x.ipynb prints to standard error: '[WARNING] two'"]
    lesson.write_text(lesson.read_text(encoding="utf-8").replace("print(1)", "print(2)"), encoding="utf-8")
    assert len(list(build.problems(lesson))) == 3


def runner():
    pytest.importorskip("ipykernel", reason="the extra `tutorials` is not installed")
    pytest.importorskip("nbclient", reason="the extra `tutorials` is not installed")
    import run

    return run


def notebook_with(*sources):
    from nbformat.v4 import new_code_cell, new_notebook

    return new_notebook(cells=[new_code_cell(source) for source in sources])


def test_the_runner_executes_in_an_empty_folder_and_forgets_old_outputs():
    notebook = notebook_with("import os\nprint(os.listdir())", "print(6 * 7)")
    notebook.cells[1].execution_count = 9
    assert runner().execute(notebook, "a.ipynb", 60) < 60
    assert [cell.outputs[0]["text"].strip() for cell in notebook.cells] == ["[]", "42"]
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]


def test_the_runner_names_the_cell_that_fails():
    with pytest.raises(RuntimeError, match=r"a\.ipynb: cell 2 \('1 / 0'\) failed: ZeroDivisionError: division by zero"):
        runner().execute(notebook_with("x = 1", "1 / 0", "x"), "a.ipynb", 60)


def test_a_hidden_test_runs_behind_its_cell_and_leaves_nothing():
    notebook = notebook_with("x = 1", "x = 2\nx")
    runner().execute(notebook, "a.ipynb", 60, {0: "assert x == 1\ny = 5\nprint(y)", 1: "assert (x, y) == (2, 5)"})
    assert [cell.source for cell in notebook.cells] == ["x = 1", "x = 2\nx"]
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    assert notebook.cells[1].outputs[0]["execution_count"] == 2 and not notebook.cells[0].outputs


def test_a_hidden_test_that_fails_says_behind_which_cell():
    with pytest.raises(RuntimeError, match=r"a\.ipynb: the test behind cell 1 failed: AssertionError: x is 2"):
        runner().execute(notebook_with("x = 1", "x"), "a.ipynb", 60, {0: 'assert x == 2, "x is 2"'})
    with pytest.raises(RuntimeError, match=r"a\.ipynb: cell 2 \('1 / 0'\) failed"):
        runner().execute(notebook_with("x = 1", "1 / 0"), "a.ipynb", 60, {0: "assert x == 1"})


def test_a_stored_notebook_finds_the_tests_of_its_lesson():
    run = runner()
    for folder, stem in (("zh", "05_static_graph"), ("en/solutions", "02_guidance")):
        tests = run.hidden_tests(build.ROOT / "tutorials" / folder / f"{stem}.ipynb")
        assert tests and all("assert" in test for test in tests.values())
    assert run.hidden_tests(build.ROOT / "tutorials" / "en" / "mine.ipynb") == {}


def test_the_runner_names_the_cell_that_takes_too_long():
    with pytest.raises(RuntimeError, match=r"a\.ipynb: cell 1 \('import time'\) was still running after 3 s"):
        runner().execute(notebook_with("import time\ntime.sleep(60)"), "a.ipynb", 3)


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nprint('odd', file=sys.stderr)",
        "import logging\nlogging.warning('odd')",
        "import warnings\nwarnings.warn('odd')",
    ],
)
def test_the_runner_names_the_cell_that_complains(source):
    with pytest.raises(RuntimeError, match=r"a\.ipynb: cell 2 \('import \w+'\) prints to standard error: '.*odd"):
        runner().execute(notebook_with("x = 1", source), "a.ipynb", 60, silent=True)


def test_two_kernels_at_a_time_fail_if_one_does(tmp_path, capsys):
    import nbformat

    run = runner()
    for name, wait in (("good", 1), ("bad", 0)):
        # each waits for the other, which one after the other would do for ever
        there = f"import pathlib, time\npathlib.Path({str(tmp_path)!r}, {name!r}).touch()"
        met = f"while len(list(pathlib.Path({str(tmp_path)!r}).glob('*d'))) < 2: time.sleep(0.1)"
        notebook = notebook_with(there, met, f"1 / {wait}")
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    words = [str(tmp_path / "good.ipynb"), str(tmp_path / "bad.ipynb"), "--seconds", "60"]
    assert run.main([*words, "--kernels", "2"]) == 1
    said = capsys.readouterr().out
    assert "good.ipynb: " in said and "bad.ipynb: cell 3" in said and "1 passed, 1 failed" in said, said


def test_the_runner_leaves_gaps_out_and_takes_solutions(tmp_path, monkeypatch):
    run = runner()
    monkeypatch.setattr(run, "ROOT", tmp_path)
    for name in ("en/01_a", "en/exercises/01_b", "en/solutions/01_b", "zh/.ipynb_checkpoints/01_a"):
        path = tmp_path / "tutorials" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    assert [str(path.relative_to(tmp_path / "tutorials")) for path in run.notebooks()] == [
        "en/01_a.ipynb",
        "en/solutions/01_b.ipynb",
    ]
