# shellcheck shell=sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The head of every script that goes to a node by Run Command: POSIX sh, for dash, busybox and bash. script.py writes what follows;
# comments and indentation do not travel. Before it stand N (the name of this command), K (1: what is too long to print is kept) and M
# (the most characters that may be printed).
#
# A script prints lines of base64 and ends with one line "fleet-ssm:N what words", and with exit status 0, whatever the payload did: the
# agent takes other ones for messages to itself (137, 168, 169, 194).
#
# shellcheck disable=SC2154  # N, K, M
# shellcheck disable=SC3067  # -O is known to all three shells
# shellcheck disable=SC2034  # what is set here is used by what follows

U=$(umask)
umask 077
# As in a session; an agent that is a service has none of these.
[ -n "$USER" ] || USER=$(id -un)
[ -n "$HOME" ] || HOME=$(eval echo "~$USER")
[ -n "$LOGNAME" ] || LOGNAME=$USER
export HOME USER LOGNAME

say() {
  printf 'fleet-ssm:%s %s\n' "$N" "$*"
}

# Ends the script; nothing was started.
refuse() {
  say "$@"
  [ -z "$w" ] || rm -rf "$w"
  exit 0
}

encode() {
  if command -v base64 >/dev/null 2>&1; then base64; else openssl base64; fi | tr -d '\n'
}

unpack() {
  if command -v base64 >/dev/null 2>&1; then base64 -d; else openssl base64 -d -A; fi | gzip -dc
}

digest() {
  h=$({ sha256sum || shasum -a 256; } 2>/dev/null)
  h=${h%% *}
  printf %s "${h:--}"
}

# The same for the last line: none where nothing may be printed, as who tries all short secrets knows one by its hash.
told() {
  if [ "$M" = 0 ]; then
    cat >/dev/null
    printf -- -
  else
    digest
  fi
}

size() {
  echo $(($(wc -c)))
}

# A folder of our own, that outlives a reboot: a command which has begun must not begin again after one.
w=
for b in /var/lib "$HOME/.ansible" /var/tmp; do
  b=$b/fleet-ssm
  mkdir -p "$b/blobs" 2>/dev/null
  if [ -d "$b/blobs" ] && [ ! -L "$b" ] && [ -O "$b" ] && [ -w "$b/blobs" ]; then break; fi
  b=
done
[ -n "$b" ] || refuse unusable folder
command -v gzip >/dev/null 2>&1 || refuse unusable gzip
command -v base64 >/dev/null 2>&1 || command -v openssl >/dev/null 2>&1 || refuse unusable base64
find "$b" "$b/blobs" -mindepth 1 -maxdepth 1 ! -name blobs -mtime +3 -exec rm -rf {} + 2>/dev/null

# The claim to this command: whoever finds it taken runs nothing.
claim() {
  mkdir "$b/run-$N" 2>/dev/null || { say again; exit 0; }
  w=$b/run-$N
}

# $1 a blob's name: whether it is here. Its pieces are put together, if those are.
blob() {
  if [ ! -f "$b/blobs/$1" ]; then
    [ -f "$b/blobs/$1.1" ] || return 1
    i=1
    while [ -f "$b/blobs/$1.$i" ]; do
      cat "$b/blobs/$1.$i" || return 1
      i=$((i + 1))
    done 2>/dev/null | gzip -dc >"$b/blobs/$1.$N" 2>/dev/null
    h=$(digest <"$b/blobs/$1.$N")
    if [ "$h" != "${1%%-*}" ] && [ "$h" != - ]; then
      rm -f "$b/blobs/$1".*
      return 1
    fi
    mv -f "$b/blobs/$1.$N" "$b/blobs/$1"
    rm -f "$b/blobs/$1".*
  fi
  touch "$b/blobs/$1"
}

# Of a presigned URL: $1 GET, or PUT and headers in lines; $2 the URL, $3 the file. $s is the status, or why there was none. The URL is a
# secret, so it is in no program's arguments. What S3 answered to a refusal is in $w/s.
transfer() {
  : >"$w/s"
  if command -v curl >/dev/null 2>&1; then
    case $1 in
      GET) a="output = \"$3\"" ;;
      *) a=$(printf '%s\n' "upload-file = \"$3\"" "output = \"$w/s\"" "$1" | sed -e '/^PUT$/d' -e '/^[^ ]*: /s/.*/header = "&"/') ;;
    esac
    s=$(printf 'url = "%s"\n%s\nsilent\nshow-error\nretry = 3\nconnect-timeout = 20\nspeed-time = 60\nspeed-limit = 1\nwrite-out = "%%{http_code}"\n' "$2" "$a" | curl -K - 2>"$w/x")
    [ "$s" != 000 ] && [ -n "$s" ] || s="000 $(head -c 300 "$w/x" | tr '\n' ' ')"
  else
    p=
    for i in "$P" python3 /usr/libexec/platform-python python; do
      if [ -n "$i" ] && "$i" -c 'import urllib.request' 2>/dev/null; then
        p=$i
        break
      fi
    done
    [ -n "$p" ] || refuse unusable curl
    s=$(printf '%s\n' "$2" "$3" "$w/s" "$1" | "$p" -c "$Y" 2>"$w/x") || s="000 $(tail -n 1 "$w/x" | head -c 300)"
  fi
  rm -f "$w/x"
  case $s in
    2??) return 0 ;;
    ???) [ "$1" != GET ] || mv -f "$3" "$w/s" ;;
  esac
  return 1
}

# $1 what failed to be transferred; the rest is for a person.
lost() {
  printf '%s\n' "$s $(head -c 1500 "$w/s" | tr '\n' ' ')" | encode
  printf '\n'
  refuse "$1"
}

# The end of a command: $1 words for the last line. What was written is in the compressed files o and e in $w.
finish() {
  o=$(size <"$w/o")
  e=$(size <"$w/e")
  l="$1 $(gzip -dc <"$w/o" | size) $(gzip -dc <"$w/o" | told) $(gzip -dc <"$w/e" | size) $(gzip -dc <"$w/e" | told)"
  if [ $(((o + e + 4) * 4 / 3 + 400)) -le "$M" ]; then
    encode <"$w/o"
    printf '\n'
    encode <"$w/e"
    printf '\n'
  elif [ "$K" = 1 ]; then
    say "$l" kept "$o" "$e"
    exit 0
  else
    l="$l long $o $e"
  fi
  rm -rf "$w"
  say "$l"
  exit 0
}
