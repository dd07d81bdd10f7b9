"""The report page: one HTML file that contains everything it shows.

`page` has the records of a page and writes them, `svg` draws, and each of the other modules makes
the sections about one kind of results. All text is escaped when the page is rendered, and a policy
in the page forbids whatever the page does not contain.
"""

from dlsys_bench.report.html.page import Graphic, Page, Section, Sheet, write_page

__all__ = ["Graphic", "Page", "Section", "Sheet", "write_page"]
