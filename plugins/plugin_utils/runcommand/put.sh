# shellcheck shell=sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Stores what `content` prints in the file $c of the mode $m (-: as the file that is there, else by the umask), whole or not at all.
# $S is its size in bytes and $H its SHA-256.
#
# shellcheck disable=SC2154

case $c in /*) ;; *) c=$HOME/$c ;; esac
if [ -L "$c" ]; then
  c=$(readlink -f "$c" && echo x) || refuse failed ENOENT
  c=${c%?x}
fi
[ -d "${c%/*}/" ] || refuse failed ENOENT
[ ! -d "$c" ] || refuse failed EISDIR
[ ! -e "$c" ] || [ -f "$c" ] || refuse failed EINVAL
f=${c%/*}/.fleet-ssm-$N
(: >"$f") 2>/dev/null || refuse failed EACCES
undo() {
  rm -f "$f"
  refuse failed "$1"
}
content >"$f" 2>"$w/x" || undo ENOSPC
[ "$(size <"$f")" = "$S" ] || undo EBADMSG
h=$(digest <"$f")
[ "$h" = - ] || [ "$h" = "$H" ] || undo EBADMSG
if [ -e "$c" ]; then
  chown "$(stat -c %u:%g "$c")" "$f" 2>/dev/null
  [ "$m" != - ] || m=$(stat -c %a "$c")
fi
(
  umask "$U"
  [ "$m" != - ] || m='=rw'
  chmod "$m" "$f"
) || undo EACCES
mv -f "$f" "$c" 2>/dev/null || undo EACCES
rm -rf "$w"
[ "$M" != 0 ] || h=-
say stored "$S" "$h"
