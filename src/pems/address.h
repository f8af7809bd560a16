/*
 * pems/address.h
 *		Kinds of network addresses: another machine's, our own, and those that must not be called.
 *
 * Pure; any process.  The rules keep a host name from leading the worker to services of its own
 * machine or network segment (docs/PROTOCOL.md).
 */
#ifndef PEMS_ADDRESS_H
#define PEMS_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

typedef enum PemsAddressKind
{
	PEMS_ADDRESS_ORDINARY, /* another machine's */
	PEMS_ADDRESS_LOOPBACK, /* this machine */
	PEMS_ADDRESS_FORBIDDEN /* unspecified, link-local, multicast, reserved */
} PemsAddressKind;

/* The kind of an address; of one that is neither IPv4 nor IPv6: FORBIDDEN. */
extern PemsAddressKind pems_address_classify(const struct sockaddr *address);
/* A numeric address, with or without the brackets of a URL; false when it is a name. */
extern bool pems_address_read(const char *host, PemsAddressKind *kind);
/* Is this host loopback by its name alone?  libcurl maps *.localhost there itself. */
extern bool pems_address_is_loopback(const char *host);

#endif /* PEMS_ADDRESS_H */
