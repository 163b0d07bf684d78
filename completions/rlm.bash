# Completions of rlm for bash. Written by `python -m rlm_cli.cli.generate`; do not edit.
_rlm() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= flags= words= word n
    # --mode=rlm arrives as three words: --mode, =, rlm
    if [[ $cur == '=' ]]; then
        cur=
    elif [[ $prev == '=' ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((n = 1; n < COMP_CWORD; n++)); do
        word=${COMP_WORDS[n]}
        if [[ $word != -* ]]; then
            command=$word
            break
        fi
    done
    COMPREPLY=()
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W 'ask read show runs models doctor config cache completion help -h --help --version' -- "$cur"))
        return
    fi
    case $prev in
        -f|--question-file) compopt -o filenames 2>/dev/null; local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --files-from) compopt -o filenames 2>/dev/null; local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -g|--glob) return ;;
        -t|--type) return ;;
        -m|--model) return ;;
        -M|--sub-model) return ;;
        --option) return ;;
        --mode) COMPREPLY=($(compgen -W 'auto rlm direct' -- "$cur")); return ;;
        --tool) compopt -o filenames 2>/dev/null; local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --samples) return ;;
        -b|--max-budget) return ;;
        --max-tokens) return ;;
        --max-depth) return ;;
        --max-iterations) return ;;
        --max-subcalls) return ;;
        --timeout) return ;;
        -j|--jobs) return ;;
        --on-limit) COMPREPLY=($(compgen -W 'answer fail' -- "$cur")); return ;;
        --run) return ;;
        --sandbox) COMPREPLY=($(compgen -W 'auto process container soft none' -- "$cur")); return ;;
        --config) compopt -o filenames 2>/dev/null; local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        -o|--output) compopt -o filenames 2>/dev/null; local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --schema) return ;;
        --trace) compopt -o filenames 2>/dev/null; local IFS=$'\n'; COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --progress) COMPREPLY=($(compgen -W 'auto tree plain none' -- "$cur")); return ;;
        --color) COMPREPLY=($(compgen -W 'auto always never' -- "$cur")); return ;;
    esac
    case $command in
        ask) flags='-f --question-file --files-from -g --glob -t --type -u --unrestricted --strict-input -m --model -M --sub-model --option --local --mode --tool --samples -b --max-budget --max-tokens --max-depth --max-iterations --max-subcalls --timeout -j --jobs --on-limit -n --dry-run -y --yes -c --continue --run --sandbox --no-cache --no-save --config -o --output --json --jsonl --schema --cite --no-cite --strict -e --exit-status --trace --progress -q --quiet -v --verbose --color -h --help' ;;
        read) flags='--files-from -g --glob -t --type -u --unrestricted --strict-input --timeout --no-cache --config --list -o --output --json --progress -q --quiet -v --verbose --color -h --help' ;;
        show) flags='-h --help' ;;
        runs) flags='-h --help' ;;
        models) flags='--check --config --json -h --help' ;;
        doctor) flags='--config -h --help' ;;
        config) flags='--config -h --help' ;;
        cache) flags='--json -y --yes -h --help' ;;
        completion) flags='-h --help' ;;
        help) flags='-h --help' ;;
        *) return ;;
    esac
    case $command in
        config) words='origins path' ;;
        cache) words='stats clear' ;;
        completion) words='bash zsh fish' ;;
        help) words='environment exit-codes output sandbox config repl models' ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    elif [[ " ask  read " == *" $command "* ]]; then
        compopt -o filenames 2>/dev/null
        local IFS=$'\n'
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}
complete -F _rlm rlm
