# bash completion for appswitch(1)

# The index of the program that `run` is to start, or nothing while options are typed.
_appswitch_run_command() {
	local i
	for ((i = 2; i < COMP_CWORD + 1; i++)); do
		case ${COMP_WORDS[i]} in
		--)
			((i < COMP_CWORD)) && echo $((i + 1))
			return
			;;
		--ip | --name | --tag | --network | --lb | --weight | --user | --socket)
			((i++))
			# bash splits --name=x into three words
			[[ ${COMP_WORDS[i]-} == = ]] && ((i++))
			;;
		-*) ;;
		*)
			echo "$i"
			return
			;;
		esac
	done
}

_appswitch_values() {
	local IFS=$' \t\n'
	# shellcheck disable=SC2207 # the words hold no blanks and no wildcards
	COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

_appswitch_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_appswitch() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local sub=${COMP_WORDS[1]} at

	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		_appswitch_values "run daemon get drain undrain leave keygen doctor version help --help"
		return
	fi
	if [[ $sub == run ]]; then
		at=$(_appswitch_run_command)
		if [[ -n $at ]]; then
			if declare -F _command_offset >/dev/null; then
				_command_offset "$at"
			elif ((COMP_CWORD == at)); then
				mapfile -t COMPREPLY < <(compgen -c -- "$cur")
			else
				_appswitch_files
			fi
			return
		fi
	fi
	# --option=value: bash makes three words of it
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	case $sub:$prev in
	*:--socket | daemon:--config | daemon:--key-file | daemon:--state-dir)
		_appswitch_files
		return
		;;
	run:--lb)
		_appswitch_values "local-first round-robin random least-connections weighted source-hash zone-first"
		return
		;;
	run:--user)
		mapfile -t COMPREPLY < <(compgen -u -- "$cur")
		return
		;;
	daemon:--log)
		_appswitch_values "error warn info debug"
		return
		;;
	get:-o | get:--output)
		_appswitch_values "table json"
		return
		;;
	run:--ip | run:--name | run:--tag | run:--network | run:--weight | daemon:--node | daemon:--ready-fd | \
		daemon:--listen | daemon:--advertise | daemon:--zone)
		return
		;;
	daemon:--guard)
		_appswitch_values "required optional"
		return
		;;
	daemon:--join)
		[[ $cur == @* ]] || return
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -P @ -f -- "${cur#@}")
		return
		;;
	esac
	case $sub in
	run) _appswitch_values "--ip --name --tag --network --lb --weight --user --socket --no-embedded --help --" ;;
	daemon) _appswitch_values "--socket --node --log --ready-fd --config --listen --advertise --join --key-file \
		--zone --guard --state-dir --help" ;;
	get) _appswitch_values "services apps connections nodes -o --output --socket --help" ;;
	drain | undrain | leave | doctor) _appswitch_values "--socket --help" ;;
	keygen)
		if [[ $cur == -* ]]; then
			_appswitch_values "- --help"
		else
			_appswitch_files
		fi
		;;
	help) ((COMP_CWORD == 2)) && _appswitch_values "run daemon get drain undrain leave keygen doctor version help" ;;
	esac
	return 0
}

complete -F _appswitch appswitch
