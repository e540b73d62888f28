# shellcheck shell=sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Runs the command $c with what `content` prints as its input. It has a session of its own: at the end of a script the agent kills the
# script's process group, and what a command leaves in the background shall live on. So somebody else must end it when the agent kills the
# script before its end, for a cancel or a time-out: a process that sees the FIFO close. It leaves the folder, by which a script that is
# started again after a reboot knows that it was there before.
#
# The shell may remark on a signal: that is not the command's output.
#
# shellcheck disable=SC2154
# shellcheck disable=SC2016  # what is in single quotes is for the inner shell

# What is left of the command still writes: a tee of its output, say.
held() {
  kill -0 "-$(cat "$w/g")" || return 1
  for f in /proc/[0-9]*/fd/[12]; do
    if [ "$f" -ef "$w/out" ] || [ "$f" -ef "$w/err" ]; then return 0; fi
  done
  return 1
}

content >"$w/i" || refuse failed ENOSPC
t=
if command -v setsid >/dev/null 2>&1 && mkfifo "$w/p" 2>/dev/null; then
  t=setsid
  setsid sh -c 'read -r x <"$0/p" || {
    g=$(cat "$0/g") && kill -TERM "-$g" && sleep 2 && kill -KILL "-$g"
    rm -f "$0"/*
  }' "$w" </dev/null >/dev/null 2>&1 &
  exec 9>"$w/p"
fi
{
  (
    umask "$U"
    cd "$HOME" 2>/dev/null || cd /
    exec $t /bin/sh -c 'echo $$ >"$0/g"; exec 9>&- /bin/sh -c "$1"' "$w" "$c" <"$w/i" >"$w/out" 2>"$w/err"
  )
  r=$?
  x=0
  while [ "$x" -lt 50 ] && held; do
    sleep 0.1
    x=$((x + 1))
  done
} 2>/dev/null
[ -z "$t" ] || echo ended >&9
exec 9>&-
rm -f "$w/i" "$w/p" "$w/g"
if ! gzip -nc <"$w/out" >"$w/o" || ! gzip -nc <"$w/err" >"$w/e"; then
  rm -rf "$w"
  say full "$r"
  exit 0
fi
rm -f "$w/out" "$w/err"
finish "exit $r"
