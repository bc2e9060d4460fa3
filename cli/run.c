#include "cli/cli.h"

#include <appswitch/addr.h>
#include <appswitch/util.h>
#include <trapgen/fail.h>
#include <trapgen/trapgen.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define usage(...) trapgen_fail(TRAPGEN_EXIT_SETUP, __VA_ARGS__)

/* The addresses in canonical form, by family; the spec borrows them. */
struct ips {
	char text[2][AS_ADDR_STRLEN];
	bool given[2];
};

static int add_ip(const char *arg, struct ips *ips)
{
	struct as_addr a;
	const char *why = NULL;
	unsigned slot;

	if (as_addr_parse(arg, &a) < 0)
		return usage("--ip %s: not an IPv4 or IPv6 address; give it like 10.0.0.5",
			     arg);
	if (as_addr_is_any(&a))
		why = "the unspecified address names nobody";
	else if (as_addr_is_loopback(&a))
		why = "a loopback address cannot be reached by others";
	else if (as_addr_is_multicast(&a))
		why = "a multicast address names a group";
	else if (!as_addr_is_v4(&a) && a.b[0] == 0xfe && (a.b[1] & 0xc0) == 0x80)
		why = "a link-local address means nothing without an interface";
	else if (as_addr_is_v4(&a) && memcmp(a.b + 12, "\xff\xff\xff\xff", 4) == 0)
		why = "the broadcast address names everybody";
	if (why != NULL)
		return usage("--ip %s: %s; choose another address", arg, why);
	slot = as_addr_is_v4(&a) ? 0 : 1;
	if (ips->given[slot])
		return usage("--ip %s: an app has one %s address; give --ip once per family",
			     arg, slot == 0 ? "IPv4" : "IPv6");
	as_addr_format(&a, ips->text[slot]);
	ips->given[slot] = true;
	return 0;
}

static int check_tag(const char *arg)
{
	const char *eq = strchr(arg, '=');

	if (eq == NULL || eq == arg || eq[1] == '\0')
		return usage("--tag %s: not KEY=VALUE; give it like tier=web", arg);
	return 0;
}

static int check_lb(const char *arg)
{
	static const char *const policies[] = { "local-first", "round-robin",
						"random",      "least-connections",
						"weighted",    "source-hash",
						"zone-first" };
	char all[128];
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
		if (strcmp(arg, policies[i]) == 0)
			return 0;
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s",
					i == 0 ? "" : ", ", policies[i]);
	}
	return usage("--lb %s: no such policy; use one of %s", arg, all);
}

static int parse_weight(const char *arg, unsigned *ret)
{
	size_t n = strspn(arg, "0123456789");
	unsigned long weight = n > 0 && n <= 4 && arg[n] == '\0' ? strtoul(arg, NULL, 10) : 0;

	if (weight < 1 || weight > 1000)
		return usage("--weight %s: not a number from 1 to 1000", arg);
	*ret = (unsigned)weight;
	return 0;
}

enum {
	OPT_IP = 256,
	OPT_NAME,
	OPT_NETWORK,
	OPT_TAG,
	OPT_LB,
	OPT_WEIGHT,
	OPT_USER,
	OPT_SOCKET,
	OPT_NO_EMBEDDED
};

static int apply(int opt, char *arg, struct trapgen_spec *spec, struct ips *ips)
{
	switch (opt) {
	case OPT_IP:
		return add_ip(arg, ips);
	case OPT_NAME:
		spec->name = arg;
		return 0;
	case OPT_NETWORK:
		spec->network = arg;
		return 0;
	case OPT_TAG:
		spec->tags[spec->n_tags++] = arg;
		return check_tag(arg);
	case OPT_LB:
		spec->lb = arg;
		return check_lb(arg);
	case OPT_WEIGHT:
		return parse_weight(arg, &spec->weight);
	case OPT_USER:
		spec->user = arg;
		return 0;
	case OPT_SOCKET:
		spec->socket = arg;
		return 0;
	default:
		spec->no_embedded = true;
		return 0;
	}
}

/* Fills @spec, whose tags have room for as many as there are arguments. 0 or an exit status. */
static int parse(int argc, char **argv, struct trapgen_spec *spec, struct ips *ips,
		 bool *ret_help)
{
	static const struct option options[] = {
		{ "ip", required_argument, NULL, OPT_IP },
		{ "name", required_argument, NULL, OPT_NAME },
		{ "network", required_argument, NULL, OPT_NETWORK },
		{ "tag", required_argument, NULL, OPT_TAG },
		{ "lb", required_argument, NULL, OPT_LB },
		{ "weight", required_argument, NULL, OPT_WEIGHT },
		{ "user", required_argument, NULL, OPT_USER },
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "no-embedded", no_argument, NULL, OPT_NO_EMBEDDED },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, r;

	opterr = 0; /* one line, and ours */
	optind = 0; /* main() may have scanned before */
	/* "+": the first word that is no option is the command, its options are its own */
	while ((opt = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		if (opt == 'h') {
			*ret_help = true;
			return 0;
		}
		if (opt == ':' || opt == '?') {
			(void)cli_getopt_error(argv, opt);
			return TRAPGEN_EXIT_SETUP;
		}
		r = apply(opt, optarg, spec, ips);
		if (r != 0)
			return r;
	}
	if (optind >= argc)
		return usage("no command: nothing to run; see 'appswitch run --help'");
	spec->argv = argv + optind;
	return 0;
}

int cmd_run(int argc, char **argv)
{
	_cleanup_free_ char **tags = calloc((size_t)argc + 1, sizeof(*tags));
	struct trapgen_spec spec = { .tags = tags };
	struct ips ips = { 0 };
	bool want_help = false;
	int r;

	if (tags == NULL)
		return usage("read the options: out of memory; try again");
	r = parse(argc, argv, &spec, &ips, &want_help);
	if (r != 0)
		return r;
	if (want_help)
		return cli_help("run");
	for (unsigned i = 0; i < ARRAY_SIZE(ips.text); i++) {
		if (ips.given[i])
			spec.ips[spec.n_ips++] = ips.text[i];
	}
	return trapgen_run(&spec);
}
