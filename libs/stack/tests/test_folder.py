from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys

import pytest
from wfe_stack.faults import FolderInUse, StackFault
from wfe_stack.folder import Folder, key_of, read_address, read_keys, write_private


def test_two_stacks_in_one_folder_are_refused_in_one_line(tmp_path):
    first = Folder.take(tmp_path / "data")
    try:
        with pytest.raises(FolderInUse, match=rf"^another stack runs in .*data \(process {os.getpid()}\); stop it"):
            Folder.take(tmp_path / "data")
    finally:
        first.release()
    Folder.take(tmp_path / "data").release()


def test_the_folder_of_a_process_that_was_killed_can_be_taken(tmp_path):
    code = "import sys, time; from pathlib import Path; from wfe_stack.folder import Folder\n"
    code += "Folder.take(Path(sys.argv[1])); print('taken', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"taken\n"
        holder.kill()
        holder.wait()
        Folder.take(tmp_path).release()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StackFault, match=r"^the folder .*file/data cannot be used: Not a directory; name another with"):
        Folder.take(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StackFault, match="Permission denied"):
        Folder.take(tmp_path / "data")


def test_the_sealing_key_is_made_once_and_is_private(tmp_path):
    folder = Folder.take(tmp_path)
    key = folder.seal_key.read_text()
    assert len(base64.b64decode(key)) == 32
    assert stat.S_IMODE(folder.seal_key.stat().st_mode) == 0o600
    folder.release()
    again = Folder.take(tmp_path)
    assert again.seal_key.read_text() == key
    again.release()


def test_a_private_file_is_private_also_where_an_open_one_was(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text("{}")
    path.chmod(0o644)
    write_private(path, '{"sam": "wfe_x"}')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == {"sam": "wfe_x"}
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("text", ["[]", '{"sam": 1}', "{", ""])
def test_a_key_file_that_is_none_says_what_to_do(tmp_path, text):
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(StackFault):
        read_keys(tmp_path / "keys.json")


def test_a_missing_key_says_which_there_are(tmp_path):
    path = tmp_path / "keys.json"
    with pytest.raises(StackFault, match="start the engine with `wfe up`"):
        key_of(path, "sam")
    path.write_text('{"ada": "wfe_a", "sam": "wfe_s"}')
    assert key_of(path, "sam") == "wfe_s"
    with pytest.raises(StackFault, match=r"no key of 'eve' in .*; it has those of ada, sam"):
        key_of(path, "eve")


def test_the_address_of_a_stack_that_is_gone_is_not_used(tmp_path):
    assert read_address(tmp_path) == {}
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    (tmp_path / "stack.json").write_text(json.dumps({"url": "http://gone", "process": gone.pid}))
    assert read_address(tmp_path) == {}
    (tmp_path / "stack.json").write_text(json.dumps({"url": "http://here", "process": os.getpid()}))
    assert read_address(tmp_path)["url"] == "http://here"
