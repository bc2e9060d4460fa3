#include <appswitch/keyring.h>

#include <appswitch/textfile.h>
#include <appswitch/util.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define HEX_LEN ((size_t)2 * KEYRING_KEY_SIZE)

void keyring_wipe(struct keyring *k)
{
	explicit_bzero(k, sizeof(*k));
}

/* ---- reading ---- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* NULL, or what is wrong with the line; then @k is as before. */
static const char *add_key(struct keyring *k, const char *line, size_t len)
{
	uint8_t *key = k->keys[k->n];

	if (len != HEX_LEN)
		return "a key is 64 hex digits on a line of its own";
	if (k->n == KEYRING_KEYS)
		return "more than 8 keys";
	for (size_t i = 0; i < KEYRING_KEY_SIZE; i++) {
		int high = hex_digit(line[2 * i]), low = hex_digit(line[2 * i + 1]);

		if (high < 0 || low < 0)
			return "not a hex digit";
		key[i] = (uint8_t)(high << 4 | low);
	}
	for (size_t i = 0; i < k->n; i++) {
		if (memcmp(k->keys[i], key, KEYRING_KEY_SIZE) == 0)
			return "this key is there already";
	}
	k->n++;
	return NULL;
}

static int parse(const char *path, char *text, size_t len, struct keyring *k, char *err,
		 size_t err_size)
{
	unsigned number = 1;
	size_t line_len;
	char *line;

	for (; (line = textfile_line(&text, &len, &line_len)) != NULL; number++) {
		const char *wrong =
			line_len > 0 && *line != '#' ? add_key(k, line, line_len) : NULL;

		if (wrong != NULL) {
			snprintf(err, err_size, "%s:%u: %s", path, number, wrong);
			return -EINVAL;
		}
	}
	if (k->n == 0) {
		snprintf(err, err_size,
			 "%s:%u: no key in it; 'appswitch keygen FILE' makes one", path,
			 number > 1 ? number - 1 : 1);
		return -EINVAL;
	}
	return 0;
}

int keyring_load(const char *path, struct keyring *ret, char *err, size_t err_size)
{
	struct keyring k = { 0 };
	char *text;
	size_t len;
	int r;

	r = textfile_read(path, KEYRING_FILE_MAX, true, &text, &len, err, err_size);
	if (r < 0)
		return r;
	r = parse(path, text, len, &k, err, err_size);
	if (r == 0)
		*ret = k;
	explicit_bzero(text, len);
	free(text);
	keyring_wipe(&k);
	return r;
}

/* ---- making ---- */

int keyring_line(char ret[KEYRING_LINE], char *err, size_t err_size)
{
	uint8_t key[KEYRING_KEY_SIZE];

	/* up to 256 bytes come whole or not at all (getrandom(2)) */
	if (getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key)) {
		int r = -errno;

		snprintf(err, err_size, "no random bytes: %s", strerror(-r));
		return r;
	}
	for (size_t i = 0; i < sizeof(key); i++)
		snprintf(ret + 2 * i, 3, "%02x", key[i]);
	ret[HEX_LEN] = '\n';
	ret[HEX_LEN + 1] = '\0';
	explicit_bzero(key, sizeof(key));
	return 0;
}

/* The name, too, is to be there after a power cut. Not every file system can do that. */
static void sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir =
		slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	_cleanup_close_ int fd =
		dir != NULL ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0)
		(void)fsync(fd);
}

static int write_line(int fd, const char *line)
{
	ssize_t n = write(fd, line, strlen(line));

	if (n >= 0 && n != (ssize_t)strlen(line))
		return -ENOSPC;
	return n < 0 || fchmod(fd, 0600) < 0 || fsync(fd) < 0 ? -errno : 0;
}

int keyring_create(const char *path, char *err, size_t err_size)
{
	_cleanup_close_ int fd = -1;
	char line[KEYRING_LINE];
	int r;

	r = keyring_line(line, err, err_size);
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_line(fd, line);
	explicit_bzero(line, sizeof(line));
	if (r == 0) {
		sync_parent(path);
		return 0;
	}
	if (fd >= 0)
		(void)unlink(path); /* ours only from open() on */
	if (r == -EEXIST)
		snprintf(err, err_size, "%s is there already and is left as it is", path);
	else
		snprintf(err, err_size, "%s: %s", path, strerror(-r));
	return r;
}
