# Completes command lines of econtext in bash: source <(econtext completions bash)
_econtext() {
    local line=${COMP_LINE:0:COMP_POINT} words=() candidates=() candidate
    # bash breaks words at characters that names of hosts have (COMP_WORDBREAKS): they are taken from the line itself.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local word=${words[${#words[@]} - 1]}
    # What stands before the part of the word that bash replaces.
    local before=${word%"$2"}
    [[ $word == "$2" ]] && before=
    while IFS= read -r candidate; do
        candidate=${candidate%%$'\t'*}
        candidates+=("${candidate#"$before"}")
    done < <("${words[0]}" completions --complete -- "${words[@]}" 2>/dev/null)
    COMPREPLY=("${candidates[@]}")
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/,=] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o bashdefault -F _econtext econtext
