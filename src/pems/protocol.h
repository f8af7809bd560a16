/*
 * pems/protocol.h
 *		Requests and answers of PEMS in one header, for rooms that need both.
 */
#ifndef PEMS_PROTOCOL_H
#define PEMS_PROTOCOL_H

#include "pems/judge.h"
#include "pems/request.h"

#endif /* PEMS_PROTOCOL_H */
