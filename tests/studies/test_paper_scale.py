"""What results at the paper's scale say about the code that they come from."""

import subprocess

import pytest

from studies import paper_scale


@pytest.fixture
def clone(tmp_path):
    def git(*arguments):
        command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "code.py").write_text("1\n")
    git("init", "--quiet")
    git("add", "code.py")
    git("commit", "--quiet", "--message", "State")
    return tmp_path


def head(folder):
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.check_output(command, cwd=folder, text=True).strip()


def test_a_clean_clone_is_its_commit(clone):
    assert paper_scale.current_commit(clone) == head(clone)


def test_a_change_of_a_tracked_file_is_said(clone):
    (clone / "code.py").write_text("2\n")
    assert paper_scale.current_commit(clone) == f"{head(clone)}-dirty"


def test_a_file_that_git_does_not_follow_changes_nothing(clone):
    (clone / "result.csv").write_text("3\n")
    assert paper_scale.current_commit(clone) == head(clone)


def test_parameters_are_replaced_at_any_depth():
    values = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    assert paper_scale.merge(values, {"b": {"d": {"e": 4}}}) == {
        "a": 1,
        "b": {"c": 2, "d": {"e": 4}},
    }
