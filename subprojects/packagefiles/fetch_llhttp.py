#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Fill subprojects/llhttp where upstream's git cannot be reached.

usage: fetch_llhttp.py SUBPROJECTS-FOLDER WRAP-MODE

httptools' source distribution carries llhttp's generated C.  pip fetches it, so the index, mirror and proxy that the
machine is configured for are used; --require-hashes makes pip refuse another archive before it looks inside, and the
sum is checked once more here.  Prints one line that says what was found; exit 1 with one sentence when nothing was.
"""
import fcntl
import filecmp
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

PIN = 'httptools==0.9.0'
SHA256 = 'd484ebb7e3a3f3597b0f645fbd1b85633674ca808c1f5ba11c2caf7c66f5c8b6'
FILES = {'LICENSE', 'LICENSE-MIT', 'include/llhttp.h', 'src/api.c', 'src/http.c', 'src/llhttp.c'}
REMEDY = 'install libllhttp >= 9 (libllhttp-dev), or git or pip (python3-pip) with a network, or unpack llhttp into ' \
         'subprojects/llhttp'


def git_answers(subprojects):
    """1 when upstream has an answer within five seconds: then meson itself clones."""
    with open(os.path.join(subprojects, 'llhttp.wrap'), encoding='utf-8') as f:
        url = re.search(r'^url *= *(\S+)', f.read(), re.M).group(1)
    env = dict(os.environ, GIT_TERMINAL_PROMPT='0', GIT_ASKPASS='true')
    try:
        return subprocess.run(['git', 'ls-remote', '--exit-code', url, 'HEAD'], env=env, timeout=5,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def pythons():
    """Interpreters that may have pip: this one first."""
    seen = []
    for p in (sys.executable, shutil.which('python3'), '/usr/bin/python3'):
        if p and p not in seen and os.access(p, os.X_OK):
            seen.append(p)
    return seen


def pip_download(folder):
    """Path of the archive, or a reason as an exception."""
    req = os.path.join(folder, 'requirement')
    with open(req, 'w', encoding='utf-8') as f:
        f.write(f'{PIN} --hash=sha256:{SHA256}\n')
    why = 'no pip was found'
    for python in pythons():
        if subprocess.run([python, '-m', 'pip', '--version'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode != 0:
            continue
        r = subprocess.run([python, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-input',
                            '--timeout', '15', '--no-deps', '--no-binary', 'httptools', '--require-hashes',
                            '-r', req, '-d', folder],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=180, check=False)
        for name in os.listdir(folder):
            if name.endswith('.tar.gz'):
                return os.path.join(folder, name)
        lines = [x for x in r.stdout.splitlines() if x.strip()]
        errors = [x for x in lines if x.startswith('ERROR')] or lines[-1:]
        why = 'pip failed: ' + (errors[-1].strip().rstrip('.') if errors else f'exit status {r.returncode}')
    raise RuntimeError(why)


def unpack(archive, target):
    """The files that we use and no others, whatever names the archive holds."""
    with open(archive, 'rb') as f:
        got = hashlib.sha256(f.read()).hexdigest()
    if got != SHA256:
        raise RuntimeError(f'{os.path.basename(archive)} has sha256 {got}, expected {SHA256}: refused')
    prefix = PIN.replace('==', '-') + '/vendor/llhttp/'
    left = set(FILES)
    with tarfile.open(archive, 'r:gz') as tar:
        for m in tar:
            name = m.name[len(prefix):]
            if m.name.startswith(prefix) and m.isfile() and name in left:
                path = os.path.join(target, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, 'wb') as f:
                    shutil.copyfileobj(tar.extractfile(m), f)
                left.remove(name)
    if left:
        raise RuntimeError(f'{os.path.basename(archive)} lacks {", ".join(sorted(left))}')


def refresh(subprojects, target):
    """Our build files in a tree that is there already, where they are older than packagefiles/."""
    source = os.path.join(subprojects, 'packagefiles', 'llhttp')
    for name in os.listdir(source):
        new, old = os.path.join(source, name), os.path.join(target, name)
        if not os.path.exists(old) or not filecmp.cmp(new, old, shallow=False):
            shutil.copy(new, old + '.new')
            os.rename(old + '.new', old)


def main():
    subprojects, wrap_mode = sys.argv[1:]
    target = os.path.join(subprojects, 'llhttp')
    if os.path.exists(os.path.join(target, 'meson.build')):
        refresh(subprojects, target)
        print('subprojects/llhttp is there')
        return 0
    if wrap_mode == 'nodownload':
        print(f'llhttp is missing and --wrap-mode=nodownload forbids fetching it: {REMEDY}', file=sys.stderr)
        return 1
    if not os.path.isdir(target) and git_answers(subprojects):
        print("upstream's git answers")
        return 0
    # Beside the target, so that the last step is a rename; the lock is for two set-ups at once.
    with open(os.path.join(subprojects, '.llhttp.lock'), 'w', encoding='utf-8') as lock, \
         tempfile.TemporaryDirectory(prefix='.llhttp-', dir=subprojects) as tmp:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(os.path.join(target, 'meson.build')):
            print('subprojects/llhttp is there')
            return 0
        try:
            tree = os.path.join(tmp, 'llhttp')
            os.mkdir(tree)
            unpack(pip_download(tmp), tree)
            shutil.copytree(os.path.join(subprojects, 'packagefiles', 'llhttp'), tree, dirs_exist_ok=True)
            if os.path.isdir(target): # an empty folder, or a half one of a broken-off clone
                shutil.rmtree(target)
            os.rename(tree, target)
        except (RuntimeError, OSError, subprocess.SubprocessError, tarfile.TarError) as e:
            print(f"llhttp could not be fetched: upstream's git does not answer, and {e}; {REMEDY}", file=sys.stderr)
            return 1
    print(f'filled subprojects/llhttp from {PIN}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
