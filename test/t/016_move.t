# An organization moves to another PEMS while requests to the old one are under way: their slots there are free again when
# they end, and the edits go to the new one.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('move', settings => { rate_limit => 0, max_in_flight => 4, request_timeout => '2s', retry_delay => '100ms', poll_interval => '1h' });
my $old = $t->fake;
my $new = $t->add_fake('new');
$t->add_organization($_) for qw(MOVER STAYER);
$t->add_organization('OTHER', fake => 'new');
my @moved = $t->load_many('MOVER', 'M-', 3);
my @kept  = $t->load_many('STAYER', 'S-', 5);

# three of four slots: the share of an endpoint
$old->fault({ organizationCode => 'MOVER', hang => JSON::PP::true });
my @moving = $t->edits('MOVER', map { [ $_, { monthlyRate => 1 } ] } @moved);
$t->commit('MOVER', \@moving);
ok($t->wait_until(sub { $old->stats->{waiting} == 3 }, what => 'three requests that hang'), 'the old PEMS has all its slots in use');

$t->{organizations}{MOVER}{fake} = 'new';
$new->add_organization('MOVER', 'token-of-MOVER');
$new->edit(map { { organizationCode => 'MOVER', pfaId => $_, version => 1, data => PemsSync::Test::record_data($_) } } @moved);
$t->set_credential('MOVER', 'token-of-MOVER');

my @staying = $t->edits('STAYER', map { [ $_, { monthlyRate => 2 } ] } @kept);
$t->commit('STAYER', \@staying);
ok($t->wait_status($_, 'synced'), "$_: the old PEMS has slots for others when they have ended") for @staying;
ok($t->wait_status($_, 'synced'), "$_: is in the new PEMS") for @moving;
is(scalar(my @sent = $new->changes(organizationCode => 'MOVER', by => 'client')), 3, 'once each');
done_testing();
