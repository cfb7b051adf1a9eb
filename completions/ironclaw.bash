# bash completion for ironclaw: verbs, options and file names. Checked against the table of verbs by a test.
_ironclaw() {
    local cur=${COMP_WORDS[COMP_CWORD]} group=${COMP_WORDS[1]} sub=${COMP_WORDS[2]} prev= subs= options=
    local common="--state-dir --url --ca-file --token-file --json --help"
    local agent="--file --tools --instructions --image --wall --memory --cpus --pids --env --provider --model --mount --peers --tenant --reason --approve --command"
    ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()

    case $prev in
    --attack)
        COMPREPLY=($(compgen -W "network engines siblings hostfs selfmod keys queues privilege kernel resources ports supply" -- "$cur"))
        return
        ;;
    --file | --report | --key-file | --log | --public-key | --ca-file | --token-file)
        COMPREPLY=($(compgen -f -- "$cur"))
        return
        ;;
    --state-dir)
        COMPREPLY=($(compgen -d -- "$cur"))
        return
        ;;
    --scope)
        COMPREPLY=($(compgen -W "admin operator read" -- "$cur"))
        return
        ;;
    --wall)
        COMPREPLY=($(compgen -W "container cell gvisor microvm" -- "$cur"))
        return
        ;;
    esac

    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "run up doctor redteam chat agent session change token provider image events audit config help" -- "$cur"))
        return
    fi

    case $group in
    chat) options="--session --timeout" ;;
    agent) subs="create list show update rm" ;;
    session) subs="create list show stop rm logs stats history" ;;
    change) subs="pending list show approve reject submit" ;;
    token) subs="bootstrap create list revoke whoami" ;;
    provider) subs="set list rm" ;;
    image) subs="list" ;;
    redteam)
        if [[ $prev == --json || ($sub == verify && $cur != -*) ]]; then
            COMPREPLY=($(compgen -f -- "$cur"))
        elif [[ $sub == verify ]]; then
            COMPREPLY=($(compgen -W "--public-key --state-dir --help" -- "$cur"))
        else
            COMPREPLY=($(compgen -W "list verify --wall --attack --json --report --state-dir --keep --help" -- "$cur"))
        fi
        return
        ;;
    events) options="--follow --session --after --limit" ;;
    audit) subs="show verify" ;;
    config) subs="check reference" ;;
    *) return ;;
    esac

    if ((COMP_CWORD == 2)) && [[ -n $subs ]]; then
        COMPREPLY=($(compgen -W "$subs" -- "$cur"))
        return
    fi

    case "$group $sub" in
    "agent create" | "agent update") options=$agent ;;
    "agent rm") options="--approve" ;;
    "session list") options="--agent" ;;
    "session history" | "audit show") options="--after --limit" ;;
    "change approve" | "change reject") options="--comment" ;;
    "change submit") options="--file --reason --approve" ;;
    "token bootstrap") options="--name" ;;
    "token create") options="--scope --name --expires" ;;
    "provider set") options="--key-file" ;;
    "audit verify") options="--log --public-key" ;;
    "config check") [[ $cur != -* ]] && COMPREPLY=($(compgen -f -- "$cur")) && return ;;
    esac
    COMPREPLY=($(compgen -W "$options $common" -- "$cur"))
}
complete -F _ironclaw ironclaw
