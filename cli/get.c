/* get.c - asks the daemon for rows and shows them as a table or as JSON. */
#include "cli/ask.h"
#include "cli/cli.h"

#include <appswitch/util.h>

#include <getopt.h>
#include <jansson.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <wchar.h>

#define COLUMN_GAP  2
#define COLUMNS_MAX 32
#define COMMAND_MIN 10

static const struct view {
	const char *what;
	const char *columns[COLUMNS_MAX]; /* keys, in the order of the table */
} views[] = {
	{ .what = "services",
	  .columns = { "network", "vip", "port", "proto", "name", "node", "app", "pid", "state",
		       "connections" } },
	{ .what = "apps",
	  .columns = { "id", "name", "network", "ips", "tags", "pid", "command", "started" } },
	{ .what = "connections",
	  .columns = { "network", "client", "server", "node", "age_s", "kind", "client_app",
		       "server_app" } },
	{ .what = "nodes",
	  .columns = { "name", "state", "address", "zone", "rtt_us", "age_s", "apps",
		       "version" } },
};

static const struct view *view_find(const char *what)
{
	for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
		if (strcmp(views[i].what, what) == 0)
			return &views[i];
	}
	return NULL;
}

/* ---- asking ---- */

/* All rows into @rows: 0, or -errno after one line. */
static int fetch(const char *socket_opt, const char *what, json_t *rows)
{
	struct ask ask;
	char request[64];
	int r;

	snprintf(request, sizeof(request), "{\"op\":\"get\",\"what\":\"%s\"}", what);
	r = ask_open(&ask, "get", socket_opt, request);
	while (r == 0) {
		json_t *answer, *part;

		r = ask_answer(&ask, &answer);
		if (r < 0)
			break;
		part = json_object_get(answer, "rows");
		if (!json_is_array(part))
			r = ask_nonsense(&ask);
		else if (json_array_extend(rows, part) < 0)
			r = ask_no_memory(&ask);
		else if (!json_is_true(json_object_get(answer, "more")))
			r = 1;
		json_decref(answer);
	}
	ask_close(&ask);
	return r < 0 ? r : 0;
}

/* ---- JSON ---- */

static void print_json(const json_t *rows)
{
	/* a terminal must not be steered by what an app calls itself */
	size_t flags = isatty(STDOUT_FILENO) ? JSON_ENSURE_ASCII : 0;
	size_t i;
	json_t *row;

	printf("[");
	json_array_foreach(rows, i, row)
	{
		printf("%s\n  ", i > 0 ? "," : "");
		json_dumpf(row, stdout, flags | JSON_ENCODE_ANY);
	}
	printf("%s]\n", i > 0 ? "\n" : "");
}

/* ---- table ---- */

/* One character of valid UTF-8, as everything that comes out of a JSON parser is. */
static size_t utf8_next(const char *s, wchar_t *ret)
{
	unsigned char b = (unsigned char)*s;
	size_t len = b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
	wchar_t c = len == 1 ? b : b & (0xff >> (len + 1));

	for (size_t i = 1; i < len; i++)
		c = (c << 6) | ((unsigned char)s[i] & 0x3f);
	*ret = c;
	return len;
}

static unsigned char_width(wchar_t c)
{
	int w = wcwidth(c);

	return w >= 0 ? (unsigned)w : 1;
}

static unsigned text_width(const char *s)
{
	unsigned width = 0;
	wchar_t c;

	while (*s != '\0') {
		s += utf8_next(s, &c);
		width += char_width(c);
	}
	return width;
}

/* Nothing that moves the cursor or turns the direction of writing; in place. */
static void make_harmless(char *s)
{
	char *out = s;
	size_t len;
	wchar_t c;

	for (; *s != '\0'; s += len) {
		len = utf8_next(s, &c);
		if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
		    (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069)) {
			*out++ = '?';
		} else {
			memmove(out, s, len);
			out += len;
		}
	}
	*out = '\0';
}

/* At most @max wide, with "..." where something is missing; in place. */
static void cut(char *s, unsigned max)
{
	unsigned width = 0;
	char *p = s;
	wchar_t c;

	if (text_width(s) <= max)
		return;
	for (;;) {
		size_t len = utf8_next(p, &c);

		if (width + char_width(c) + 3 > max)
			break;
		width += char_width(c);
		p += len;
	}
	memcpy(p, "...",
	       4); /* fits: more than 3 columns are left out, none is less than a byte */
}

static char *format_started(json_int_t t)
{
	time_t when = (time_t)t;
	char buf[32];
	struct tm tm;

	if (localtime_r(&when, &tm) == NULL || strftime(buf, sizeof(buf), "%FT%T", &tm) == 0)
		return NULL;
	return strdup(buf);
}

/* The text of a cell, never empty; the caller frees it. NULL only on OOM. */
static char *cell_text(const char *key, const json_t *value)
{
	char *s = NULL;

	if (json_is_string(value))
		s = strdup(json_string_value(value));
	else if (json_is_integer(value) && strcmp(key, "started") == 0)
		s = format_started(json_integer_value(value));
	if (s == NULL && value != NULL && !json_is_null(value))
		s = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
	if (s != NULL && *s != '\0') {
		make_harmless(s);
		return s;
	}
	free(s);
	return strdup("-");
}

static unsigned terminal_width(void)
{
	struct winsize ws;

	if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0)
		return 0;
	return ws.ws_col;
}

/* Fills @keys, returns their number. They are borrowed from @view. */
static size_t choose_columns(const struct view *view, const char *keys[COLUMNS_MAX])
{
	size_t n = 0;

	while (n < COLUMNS_MAX && view->columns[n] != NULL) {
		keys[n] = view->columns[n];
		n++;
	}
	return n;
}

static char *upper(const char *s)
{
	char *u = strdup(s);

	for (char *p = u; p != NULL && *p != '\0'; p++) {
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	}
	if (u != NULL)
		make_harmless(u);
	return u;
}

/* 0 or -ENOMEM, with nothing printed. */
static int print_table(const struct view *view, const json_t *rows)
{
	const char *keys[COLUMNS_MAX];
	size_t columns = choose_columns(view, keys);
	size_t lines = json_array_size(rows) + 1, cells = lines * columns;
	unsigned width[COLUMNS_MAX] = { 0 }, total = 0, room = terminal_width();
	char **cell = calloc(cells + 1, sizeof(*cell));
	int r = -ENOMEM;

	if (cell == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < cells; i++) {
		size_t line = i / columns, col = i % columns;

		cell[i] = line == 0 ? upper(keys[col])
				    : cell_text(keys[col],
						json_object_get(json_array_get(rows, line - 1),
								keys[col]));
		if (cell[i] == NULL)
			goto out;
		if (text_width(cell[i]) > width[col])
			width[col] = text_width(cell[i]);
	}
	for (size_t col = 0; col < columns; col++)
		total += width[col] + (col > 0 ? COLUMN_GAP : 0);
	for (size_t col = 0; col < columns; col++) {
		unsigned over = room > 0 && total > room ? total - room : 0;

		if (strcmp(keys[col], "command") != 0 || over == 0 || width[col] <= COMMAND_MIN)
			continue;
		width[col] = width[col] > over + COMMAND_MIN ? width[col] - over : COMMAND_MIN;
		for (size_t line = 1; line < lines; line++)
			cut(cell[line * columns + col], width[col]);
	}
	for (size_t i = 0; i < cells; i++) {
		size_t col = i % columns;

		fputs(cell[i], stdout);
		if (col + 1 < columns)
			printf("%*s", (int)(width[col] - text_width(cell[i]) + COLUMN_GAP), "");
		else
			putchar('\n');
	}
	r = 0;
out:
	for (size_t i = 0; i < cells; i++)
		free(cell[i]);
	free(cell);
	return r;
}

int cmd_get(int argc, char **argv)
{
	enum { OPT_SOCKET = 256 };
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const struct view *view;
	const char *socket_opt = NULL;
	bool as_json = false;
	json_t *rows;
	int c, status = CLI_FAILED;

	while ((c = getopt_long(argc, argv, ":ho:", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			as_json = strcmp(optarg, "json") == 0;
			if (!as_json && strcmp(optarg, "table") != 0)
				return cli_usage_error(
					"get", "unknown format '%s', it is table or json",
					optarg);
			break;
		case OPT_SOCKET:
			socket_opt = optarg;
			break;
		case 'h':
			return cli_help("get");
		default:
			return cli_getopt_error(argv, c);
		}
	}
	if (optind == argc)
		return cli_usage_error("get", "what? services, apps, connections or nodes");
	view = view_find(argv[optind]);
	if (view == NULL)
		return cli_usage_error("get",
				       "'%s' is none of services, apps, connections, nodes",
				       argv[optind]);
	if (optind + 1 < argc)
		return cli_usage_error("get", "unexpected argument '%s'", argv[optind + 1]);
	rows = json_array();
	if (rows == NULL)
		return cli_error("get", "out of memory");
	if (fetch(socket_opt, view->what, rows) == 0) {
		/* for wcwidth(3), also where the locale is C but the terminal is not */
		if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
			(void)setlocale(LC_CTYPE, "");
		status = 0;
		if (as_json)
			print_json(rows);
		else if (print_table(view, rows) < 0)
			status = cli_error("get", "out of memory");
		status = cli_flush("get", status);
	}
	json_decref(rows);
	return status;
}
