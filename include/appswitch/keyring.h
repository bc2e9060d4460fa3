/* keyring.h - the keys of a cluster, and the file they are in.
 *
 * A text file with one key of 32 bytes on a line, as 64 hex digits; blank lines and lines that
 * begin with '#' are left out. The first key encrypts, every one of them decrypts: so a key is
 * replaced without a moment in which two nodes do not understand each other. Add the new one as
 * the last line everywhere, then make it the first line everywhere, then remove the old one.
 *
 * A keyring is a plain value; who has a copy wipes it with keyring_wipe(). All functions return 0
 * or -errno, and then @err has one line for a person. */
#ifndef APPSWITCH_KEYRING_H
#define APPSWITCH_KEYRING_H

#include <stddef.h>
#include <stdint.h>

#define KEYRING_KEYS	 8 /* in one file */
#define KEYRING_KEY_SIZE 32
#define KEYRING_LINE	 (2 * KEYRING_KEY_SIZE + 2) /* hex digits, line feed, NUL */
#define KEYRING_FILE_MAX 65536			    /* bytes, with all comments */

struct keyring {
	size_t n; /* at least 1 in one that was loaded */
	uint8_t keys[KEYRING_KEYS][KEYRING_KEY_SIZE];
};

/* Whole or not at all: *@ret is written on success only, so a keyring in use stays as it is when
 * its file has become wrong. -EPERM: others may use the file; -EINVAL: it is none of this form. */
int keyring_load(const char *path, struct keyring *ret, char *err, size_t err_size);

/* Leaves nothing of the keys in memory. */
void keyring_wipe(struct keyring *k);

/* A fresh key as a line of such a file. */
int keyring_line(char ret[KEYRING_LINE], char *err, size_t err_size);

/* A new file with one fresh key, for its owner only, on the disk when this returns. A file that is
 * there is never touched (-EEXIST); on failure none is left behind. */
int keyring_create(const char *path, char *err, size_t err_size);

#endif
