# shellcheck shell=sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The runner of a node that has no Python: POSIX sh, for dash, busybox and bash. sh_link.py speaks to it; session_command
# in bootstrap.py starts it in a raw PTY, with the nonce as $1. Comments and indentation do not travel.
#
# A request is a line of words: letter, id, arguments. What may hold any byte is written for printf %b, without blanks, so
# that no decoder is needed. An answer is a line "~KEY" letter, id, words; output goes through base64, or od where there is
# none. A command starts when its whole stdin has come, into a file. Without a line for $t seconds the runner ends.
#
# shellcheck disable=SC2154  # what has an id in its name is set by eval
# shellcheck disable=SC2016  # what is in single quotes is for the inner shell

n=$1
w=${TMPDIR:-/tmp}/.fleet-ssm-$n.sh
rm -rf "${w%.sh}"
(umask 077 && mkdir "$w") || exit 1
cd "${HOME:-/}" 2>/dev/null || cd /
exec 9>&1
read -r k t

e='base64 -w 996'
printf x | $e >/dev/null 2>&1 || e='openssl base64'
printf x | $e >/dev/null 2>&1 || e='od -An -v -tx1'
s=
command -v setsid >/dev/null 2>&1 && s=setsid

say() {
  printf '~%s%s\n' "$k" "$*" >&9
}

decode() {
  v=$(printf %b "${1}x")
  v=${v%x}
}

# Whole lines, each by one write: sed's output is a terminal. $1 is o or e, $2 the id.
encode() {
  $e | sed "s/^/~$k$1 $2 /" >&9
}

digest() {
  h=$(sha256sum <"$1" 2>/dev/null) || h=
  printf %s "${h%% *}"
}

# $1 id, $2 command. The shell may remark on a signal: its own stderr is not the command's.
run() {
  r=$({
    {
      {
        ($s sh -c 'echo $$ >"$1"; [ ! -e "${1%p}k" ] || exit 143; exec sh -c "$2"' sh "$w/$1.p" "$2" <"$w/$1.i" 2>&4 3>&- 4>&- 9>&-)
        echo $? >&3
      } 4>&2 2>/dev/null | encode o "$1"
    } 2>&1 | encode e "$1"
  } 3>&1)
  rm -f "$w/$1.p" "$w/$1.i" "$w/$1.k"
  say x "$1" "$r"
}

finish_put() {
  if [ "$(($(wc -c <"$f")))" != "$3" ]; then
    say f "$1" EBADMSG
  elif h=$(digest "$f") && [ -n "$h" ] && [ "$h" != "$2" ]; then
    say f "$1" EBADMSG
  elif chmod "$m" "$f" && mv -f "$f" "$p"; then
    say w "$1" "$3" "${h:--}"
    return
  else
    say f "$1" EACCES
  fi
  rm -f "$f"
}

read_file() {
  { cat "$p" || : >"$w/$1.e"; } | encode o "$1"
  if [ -e "$w/$1.e" ]; then
    rm -f "$w/$1.e"
    say f "$1" EIO
    return
  fi
  h=$(digest "$p")
  say y "$1" "$(($(wc -c <"$p")))" "$(stat -c %a "$p" 2>/dev/null || echo -)" "${h:--}"
}

# Why $p cannot be read (r) or its directory cannot be written to (w); says nothing if all is well.
obstacle() {
  case $1 in
    w) [ -d "${p%/*}/" ] || { echo ENOENT; return; } ;;
    r) [ -e "$p" ] || { echo ENOENT; return; } ;;
  esac
  if [ -d "$p" ]; then
    echo EISDIR
  elif [ -e "$p" ] && [ ! -f "$p" ]; then
    echo EINVAL
  elif [ "$1" = r ] && [ ! -r "$p" ] || [ "$1" = w ] && [ ! -w "${p%/*}/" ]; then
    echo EACCES
  fi
}

end_all() {
  trap '' HUP TERM
  for f in "$w"/*.p; do
    [ -f "$f" ] && kill -TERM "-$(cat "$f")" 2>/dev/null && q=1
  done
  [ -n "$q" ] && sleep 2
  for f in "$w"/*.p; do
    [ -f "$f" ] && kill -KILL "-$(cat "$f")" 2>/dev/null
  done
  kill "$g" 2>/dev/null
  for f in $u; do
    eval "rm -f \"\$f$f\""
  done
  rm -rf "$w"
  exit 0
}

# The dead-man's watch: every line that is read makes the file anew.
: >"$w/seen"
(while sleep "$t" && rm "$w/seen"; do :; done 2>/dev/null; kill -HUP $$) </dev/null >/dev/null 2>&1 9>&- &
g=$!
q=
u=
trap end_all HUP TERM
say r "$(id -u)" "$$" "$(uname -s)" "$(id -un)" "$HOME"

# For an open request i: f$i is the file its data goes to, o$i what it is (its letter), p$i and m$i path and mode.
while read -r o i a b; do
  : >"$w/seen"
  case $o in
    x)
      decode "$a"
      eval "o$i=x p$i=\$v f$i=\$w/$i.i"
      : >"$w/$i.i"
      ;;
    w)
      decode "$b"
      p=$v
      case $p in /*) ;; *) p=$PWD/$p ;; esac
      c=$(obstacle w)
      [ "$a" != - ] || a=$(stat -c %a "$p" 2>/dev/null) || a='=rw'
      eval "o$i=w p$i=\$p m$i=\$a f$i=\${p%/*}/.fleet-ssm-$n-$i"
      eval "f=\$f$i"
      [ -n "$c" ] || (umask 077 && : >"$f") 2>/dev/null || c=EACCES
      if [ -n "$c" ]; then
        eval "o$i="
        say f "$i" "$c"
      else
        u="$u $i"
      fi
      ;;
    d)
      eval "c=\$o$i f=\$f$i"
      if [ -n "$c" ] && ! printf %b "$a" 2>/dev/null >>"$f"; then
        eval "o$i="
        rm -f "$f"
        say f "$i" ENOSPC
      fi
      [ -z "$c" ] || say g "$i"
      ;;
    e)
      eval "c=\$o$i f=\$f$i p=\$p$i m=\$m$i o$i="
      case $c in
        x) run "$i" "$p" & ;;
        w) finish_put "$i" "$a" "$b" ;;
      esac
      ;;
    g)
      decode "$a"
      p=$v
      c=$(obstacle r)
      if [ -n "$c" ]; then say f "$i" "$c"; else read_file "$i" & fi
      ;;
    k)
      eval "c=\$o$i f=\$f$i o$i="
      if [ -n "$c" ]; then
        rm -f "$f"
        say f "$i" ECANCELED
      elif [ -f "$w/$i.i" ]; then
        : >"$w/$i.k" # it may be about to start
        if [ -f "$w/$i.p" ]; then
          c=$(cat "$w/$i.p")
          if [ -n "$s" ]; then c=-$c; fi
          kill -TERM "$c"
          (sleep 2; kill -KILL "$c") </dev/null >/dev/null 2>&1 9>&- &
        fi
      fi
      ;;
    p) say p ;;
    q) break ;;
    *) say f "$i" ENOTSUP ;;
  esac
done 2>/dev/null
end_all
