/*
 * pems/address.c
 *		Kinds of network addresses; see address.h.
 *
 * Pure; any process: no I/O, no name is looked up, no memory is allocated.
 */
#include "pems/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

static PemsAddressKind
classify_ipv4(const unsigned char *byte)
{
	if (byte[0] == 127)
		return PEMS_ADDRESS_LOOPBACK;
	/* unspecified and "this network"; link-local; multicast, reserved, broadcast */
	if (byte[0] == 0 || (byte[0] == 169 && byte[1] == 254) || byte[0] >= 224)
		return PEMS_ADDRESS_FORBIDDEN;
	return PEMS_ADDRESS_ORDINARY;
}

/* An IPv4 address behind a translator or relay is another machine's: never our own loopback. */
static PemsAddressKind
classify_relayed_ipv4(const unsigned char *byte)
{
	return classify_ipv4(byte) == PEMS_ADDRESS_ORDINARY ? PEMS_ADDRESS_ORDINARY
														: PEMS_ADDRESS_FORBIDDEN;
}

static PemsAddressKind
classify_ipv6(const struct in6_addr *address)
{
	static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	const unsigned char *byte = address->s6_addr;

	if (IN6_IS_ADDR_LOOPBACK(address))
		return PEMS_ADDRESS_LOOPBACK;
	if (IN6_IS_ADDR_UNSPECIFIED(address) || IN6_IS_ADDR_LINKLOCAL(address) ||
		IN6_IS_ADDR_MULTICAST(address))
		return PEMS_ADDRESS_FORBIDDEN;
	if (IN6_IS_ADDR_V4MAPPED(address) || IN6_IS_ADDR_V4COMPAT(address))
		return classify_ipv4(byte + 12);
	/* 64:ff9b::/96, and 6to4, 2002::/16; <netinet/in.h> has no names for them */
	if (memcmp(byte, nat64, sizeof(nat64)) == 0)
		return classify_relayed_ipv4(byte + 12);
	if (byte[0] == 0x20 && byte[1] == 0x02)
		return classify_relayed_ipv4(byte + 2);
	return PEMS_ADDRESS_ORDINARY;
}

PemsAddressKind
pems_address_classify(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
	{
		struct sockaddr_in ipv4;

		memcpy(&ipv4, address, sizeof(ipv4));
		return classify_ipv4((const unsigned char *) &ipv4.sin_addr);
	}
	if (address->sa_family == AF_INET6)
	{
		struct sockaddr_in6 ipv6;

		memcpy(&ipv6, address, sizeof(ipv6));
		return classify_ipv6(&ipv6.sin6_addr);
	}
	return PEMS_ADDRESS_FORBIDDEN;
}

bool
pems_address_read(const char *host, PemsAddressKind *kind)
{
	char text[INET6_ADDRSTRLEN + 1];
	struct in_addr ipv4;
	struct in6_addr ipv6;
	size_t length = strlen(host);

	if (length >= 2 && host[0] == '[' && host[length - 1] == ']')
	{
		host++;
		length -= 2;
	}
	if (length >= sizeof(text))
		return false;
	memcpy(text, host, length);
	text[length] = '\0';
	if (inet_pton(AF_INET, text, &ipv4) == 1)
		*kind = classify_ipv4((const unsigned char *) &ipv4);
	else if (inet_pton(AF_INET6, text, &ipv6) == 1)
		*kind = classify_ipv6(&ipv6);
	else
		return false;
	return true;
}

bool
pems_address_is_loopback(const char *host)
{
	static const char suffix[] = ".localhost";
	size_t length = strlen(host);
	PemsAddressKind kind;

	if (pems_address_read(host, &kind))
		return kind == PEMS_ADDRESS_LOOPBACK;
	if (length > 0 && host[length - 1] == '.')
		length--;
	if (length == sizeof(suffix) - 2)
		return strncasecmp(host, suffix + 1, length) == 0;
	return length >= sizeof(suffix) - 1 &&
		   strncasecmp(host + length - (sizeof(suffix) - 1), suffix, sizeof(suffix) - 1) == 0;
}
