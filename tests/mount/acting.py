# SPDX-License-Identifier: BSD-3-Clause
"""What several users do on a mount: a function run by a process with another user's ids."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ALICE, BOB, STAFF = 48201, 48202, 48210  # users and their groups of the same number, and a group


def lay_homes(at: Path) -> Path:
    """The tree below a mount of homes: one each for Alice and Bob."""
    for user in (ALICE, BOB):
        (at / str(user)).mkdir(parents=True)
        os.chown(at / str(user), user, user)
    at.chmod(0o755)
    return at


def by(uid: int, function: Callable[..., Any], *args: Any, gid: int | None = None, groups: Sequence[int] = (), umask: int = 0o022) -> Any:
    """function(*args) as that user: its result, or the OSError it raised."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(out)
            os.setgroups(list(groups))
            os.setgid(uid if gid is None else gid)
            os.setuid(uid)
            os.umask(umask)
            try:
                result = (True, function(*args))
            except OSError as e:
                result = (False, e)
            with os.fdopen(into, "wb") as f:
                pickle.dump(result, f)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(into)
    with os.fdopen(out, "rb") as f:
        answer = f.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the process of uid {uid} ended with {status}"
    good, result = pickle.loads(answer)
    if not good:
        raise result
    return result
