/*
 * pems/address.c
 *		Classes of network addresses.  Pure: no I/O, no name is looked up.
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

static PemsAddressKind
classify_ipv6(const unsigned char *byte)
{
	static const unsigned char zeros[16];
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};

	if (memcmp(byte, zeros, 15) == 0)
		return byte[15] == 1 ? PEMS_ADDRESS_LOOPBACK : PEMS_ADDRESS_FORBIDDEN;
	if (memcmp(byte, mapped, 12) == 0 || memcmp(byte, zeros, 12) == 0)
		return classify_ipv4(byte + 12);
	/* An IPv4 address behind a translator is never our own loopback. */
	if (memcmp(byte, nat64, 12) == 0)
		return classify_ipv4(byte + 12) == PEMS_ADDRESS_ORDINARY ? PEMS_ADDRESS_ORDINARY
																 : PEMS_ADDRESS_FORBIDDEN;
	if (byte[0] == 0x20 && byte[1] == 0x02)
		return classify_ipv4(byte + 2) == PEMS_ADDRESS_ORDINARY ? PEMS_ADDRESS_ORDINARY
																: PEMS_ADDRESS_FORBIDDEN;
	if ((byte[0] == 0xfe && (byte[1] & 0xc0) == 0x80) || byte[0] == 0xff)
		return PEMS_ADDRESS_FORBIDDEN;
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
		return classify_ipv6(ipv6.sin6_addr.s6_addr);
	}
	return PEMS_ADDRESS_FORBIDDEN;
}

bool
pems_address_read(const char *host, PemsAddressKind *kind)
{
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char byte[16];
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
	if (inet_pton(AF_INET, text, byte) == 1)
		*kind = classify_ipv4(byte);
	else if (inet_pton(AF_INET6, text, byte) == 1)
		*kind = classify_ipv6(byte);
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
