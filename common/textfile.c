#include <appswitch/textfile.h>

#include <appswitch/util.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int refuse(const char *path, const char *why, int r, char *err, size_t err_size)
{
	snprintf(err, err_size, "%s: %s", path, why);
	return r;
}

int textfile_read(const char *path, size_t max, bool secret, char **ret, size_t *ret_len,
		  char *err, size_t err_size)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t len = 0;
	ssize_t n;
	char *text;

	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse(path, strerror(errno), -errno, err, err_size);
	if (!S_ISREG(st.st_mode))
		return refuse(path, "not a regular file", -EINVAL, err, err_size);
	if (secret && (st.st_mode & 077) != 0)
		return refuse(path, "others may use this file: chmod 600 it", -EPERM, err,
			      err_size);
	text = malloc(max + 2);
	if (text == NULL)
		return refuse(path, strerror(ENOMEM), -ENOMEM, err, err_size);
	do {
		n = read(fd, text + len, max + 1 - len);
		if (n > 0)
			len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0 || len > max) {
		int r = n < 0 ? -errno : -EFBIG;

		explicit_bzero(text, len);
		free(text);
		return refuse(path, strerror(-r), r, err, err_size);
	}
	text[len] = '\0';
	*ret = text;
	*ret_len = len;
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

char *textfile_line(char **text, size_t *len, size_t *ret_len)
{
	char *line = *text, *end;
	size_t n;

	if (*len == 0)
		return NULL;
	end = memchr(line, '\n', *len);
	n = end != NULL ? (size_t)(end - line) : *len;
	*text += end != NULL ? n + 1 : n;
	*len -= end != NULL ? n + 1 : n;
	while (n > 0 && is_blank(line[n - 1]))
		n--;
	while (n > 0 && is_blank(*line)) {
		line++;
		n--;
	}
	line[n] = '\0';
	*ret_len = n;
	return line;
}
