/*
 * rotate.h
 *		"pems-credential rotate": a new key for all credentials.
 */
#ifndef PEMS_ROTATE_H
#define PEMS_ROTATE_H

/* The command; returns its exit status. */
extern int rotate_keys(int argc, char **argv);

#endif /* PEMS_ROTATE_H */
