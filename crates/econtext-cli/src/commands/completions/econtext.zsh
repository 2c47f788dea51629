#compdef econtext
# Completes command lines of econtext in zsh: source <(econtext completions zsh), or a file _econtext in fpath.
_econtext() {
    local line
    local -a full partial
    for line in ${(f)"$(${words[1]} completions --complete -- ${(Q)words[1,CURRENT]} 2>/dev/null)"}; do
        line=${line%%$'\t'*}
        case $line in
            *[:/,=]) partial+=("$line") ;;
            *) full+=("$line") ;;
        esac
    done
    (( $#partial )) && compadd -Q -S '' -a partial
    (( $#full )) && compadd -a full
}
if [ "$funcstack[1]" = _econtext ]; then
    _econtext "$@"
else
    compdef _econtext econtext
fi
