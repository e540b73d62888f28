# shellcheck shell=sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sends what the command $R left here by the presigned URL $c; $m is PUT, and the headers to send.
#
# shellcheck disable=SC2154

d=$b/run-$R
[ -f "$d/o" ] && [ -f "$d/e" ] || refuse gone
cat "$d/o" "$d/e" >"$w/all" || refuse failed ENOSPC
transfer "$m" "$c" "$w/all" || lost send
rm -rf "$d" "$w"
say collected
