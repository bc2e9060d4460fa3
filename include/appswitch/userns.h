/* userns.h - a user namespace of one's own. */
#ifndef APPSWITCH_USERNS_H
#define APPSWITCH_USERNS_H

/* Moves the calling, single-threaded process into a new one, with its one user and group under the same
 * numbers: a file's owner looks the same inside. 0 or -errno; *ret_what says what was being done
 * ("static" text). */
int userns_new(const char **ret_what);

/* Writes all of @text to a file that is there, as one write (/proc takes it no other way). 0 or -errno. */
int write_file(const char *path, const char *text);

#endif
