"""All tests in an order that lets the coverage test come last. Arguments go to unittest (`-v`, `-k pattern`)."""

import sys
import unittest

import test_calls
import test_faults
import test_refusals
import test_routes
import test_strict


def load_tests(loader, _tests, _pattern):
    suite = unittest.TestSuite()
    for case in (
        test_strict.Strict,
        test_calls.Calls,
        test_refusals.Requests,
        test_refusals.Reads,
        test_refusals.Changes,
        test_routes.Routes,
        test_faults.Faults,
    ):
        suite.addTests(loader.loadTestsFromTestCase(case))
    if not loader.testNamePatterns:
        suite.addTests(loader.loadTestsFromTestCase(test_refusals.Coverage))
    return suite


unittest.main(module=sys.modules[__name__])
