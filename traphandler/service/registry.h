/* registry.h - apps and listeners: making, finding, ending them; the service table's rows.
 *
 * Everything here wants sw->lock held unless it says otherwise. Apps and listeners are counted:
 * a pointer taken with _ref stays good until _unref, also when the app has ended meanwhile. */
#ifndef TRAPHANDLER_REGISTRY_H
#define TRAPHANDLER_REGISTRY_H

#include "traphandler/switch.h"

/* From the registration @reg (see ctl.h), checked whole. On -EINVAL, -EEXIST, -ENOSPC @err has a
 * line for a person. @id is 0 for a new app, else the id of one that is taken over.
 * The app is not listed yet: app_publish() does that once its fds are there. */
int app_new(struct switch_ctx *sw, const json_t *reg, uint32_t id, struct app **ret, char *err,
	    size_t err_size);
void app_publish(struct switch_ctx *sw, struct app *app);
struct app *app_find(struct switch_ctx *sw, uint32_t id);
/* Whose network namespace that is (SO_NETNS_COOKIE). */
struct app *app_find_netns(struct switch_ctx *sw, uint64_t cookie);
void app_ref(struct app *app);
void app_unref(struct switch_ctx *sw, struct app *app);
/* Its last process is gone: services withdrawn, fds closed, freed with the last reference. */
void app_end(struct switch_ctx *sw, struct app *app);

/* An empty one, of nobody's; without the lock. NULL: no memory. listener_free() is for one that was
 * never registered. */
struct listener *listener_alloc(void);
void listener_free(struct listener *l);
/* Registers a listener; takes @l->anchor_fd on success. 0, -ENOBUFS (no more for this app), -ENOMEM. */
int listener_add(struct switch_ctx *sw, struct listener *l);
struct listener *listener_find(struct switch_ctx *sw, uint64_t anchor);
void listener_ref(struct listener *l);
void listener_unref(struct switch_ctx *sw, struct listener *l);
/* Its stand-in is gone: withdrawn from the table, the anchor's port freed. */
void listener_end(struct switch_ctx *sw, struct listener *l);

/* The service addresses @l is reached at from other apps: 0 to 2 of them. */
unsigned listener_vips(const struct listener *l, struct as_addr ret[2]);

/* It gets no new connections from other apps. */
bool app_drains(const struct switch_ctx *sw, const struct app *app);

#endif
