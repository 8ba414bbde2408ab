#!/usr/bin/perl
# What stands under results/ and in README.md is what the measurements in the JSON say.
use strict;
use warnings;
use FindBin;
use Test::More;

delete $ENV{LD_PRELOAD};
my $said = `$FindBin::Bin/../../scripts/results --check 2>&1 </dev/null`;
is($? >> 8, 0, 'results/ and the numbers of README.md are as the JSON has it') or diag($said);
done_testing();
