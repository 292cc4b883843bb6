# text FILE: standard input as FILE, with its directories.
text() {
  mkdir -p "$(dirname "$1")"
  cat >"$1"
}

# program FILE: the same, executable.
program() {
  text "$1"
  chmod +x "$1"
}
