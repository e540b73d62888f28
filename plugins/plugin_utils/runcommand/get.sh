# shellcheck shell=sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Reads the file $c.
#
# shellcheck disable=SC2154

case $c in /*) ;; *) c=$HOME/$c ;; esac
[ -e "$c" ] || refuse failed ENOENT
[ ! -d "$c" ] || refuse failed EISDIR
[ -f "$c" ] || refuse failed EINVAL
[ -r "$c" ] || refuse failed EACCES
gzip -nc <"$c" >"$w/o" 2>/dev/null || refuse failed EIO
gzip -nc </dev/null >"$w/e"
finish "got $(stat -c %a "$c" 2>/dev/null || echo -)"
