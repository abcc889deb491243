"""How Sphinx builds the site. `course book` lays out the pages first; see course_lib/cli/book.py."""

from importlib import metadata

from course_lib.cli import build, notebooks

repository, reference = build.read_project(notebooks.checkout())

project = "Image segmentation, hands on"
author = "The image segmentation course authors"
copyright = "The image segmentation course authors; text and figures CC BY 4.0, code MIT"
release = metadata.version("course_lib")

extensions = ["myst_nb", "sphinx_copybutton"]
root_doc = "book/index"
nb_execution_mode = "off"  # the lessons have run
nb_render_markdown_format = "commonmark"
nb_ipywidgets_js = {}  # widgets stand still here: their last figure is on the page
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4

html_theme = "sphinx_book_theme"
html_title = project
html_favicon = html_logo = "_static/mark.svg"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_extra_path = ["_root"]  # index.html, which leads to book/index.html
html_use_index = False
html_show_sourcelink = True
mathjax_path = "mathjax.js"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system
html_theme_options = {
    "repository_url": f"https://github.com/{repository}",
    "repository_branch": reference,
    "path_to_docs": "",
    "use_repository_button": True,
    "use_issues_button": True,
    "use_download_button": True,
    "navbar_persistent": [],  # else a second search field on top
    "launch_buttons": {
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org",
        "notebook_interface": "jupyterlab",
    },
    "logo": {"text": project, "alt_text": f"{project}: to the first page"},
}
