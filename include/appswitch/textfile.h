/* textfile.h - a small text file, read whole or not at all.
 *
 * For files that a person writes: every failure is one line for that person, with the path in it.
 * Only regular files are read (a FIFO would block, a device has no end). */
#ifndef APPSWITCH_TEXTFILE_H
#define APPSWITCH_TEXTFILE_H

#include <stdbool.h>
#include <stddef.h>

/* @max bytes at most. *@ret is NUL-terminated and the caller's; *@ret_len does not count the NUL,
 * and the text may hold others. With @secret a file that group or others may use is refused.
 * 0 or -errno (-EPERM for that, -EFBIG, -EINVAL: not a regular file), then @err has the line. */
int textfile_read(const char *path, size_t max, bool secret, char **ret, size_t *ret_len,
		  char *err, size_t err_size);

/* The next line of a text of *@len bytes at *@text, and both moved behind it. Cuts it off in place:
 * no line feed, no blanks at either end. NULL at the end of the text. *@ret_len is its length. */
char *textfile_line(char **text, size_t *len, size_t *ret_len);

#endif
