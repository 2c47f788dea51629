# Completes command lines of econtext in fish: econtext completions fish | source
function __econtext_complete
    set -l words (commandline -opc)
    $words[1] completions --complete -- $words (commandline -ct) 2>/dev/null
end
complete -c econtext -f -a '(__econtext_complete)'
